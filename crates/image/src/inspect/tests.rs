//! Headers written by hand, byte by byte, hostile ones among them.

use super::*;

const MIB: usize = 1 << 20;
const GIB: u64 = 1 << 30;
const LIMIT: u64 = 1 << 40;

/// Bytes to be filled in at offsets.
struct Disk(Vec<u8>);

impl Disk {
    fn of(length: usize) -> Self {
        Disk(vec![0; length])
    }

    fn at(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn be32(self, offset: usize, value: u32) -> Self {
        self.at(offset, &value.to_be_bytes())
    }

    fn be64(self, offset: usize, value: u64) -> Self {
        self.at(offset, &value.to_be_bytes())
    }

    fn le32(self, offset: usize, value: u32) -> Self {
        self.at(offset, &value.to_le_bytes())
    }

    fn le64(self, offset: usize, value: u64) -> Self {
        self.at(offset, &value.to_le_bytes())
    }

    fn cut(mut self, length: usize) -> Self {
        self.0.truncate(length);
        self
    }
}

/// Version 3, 64 KiB clusters, 10 GiB, first table in the fourth cluster.
fn qcow2() -> Disk {
    Disk::of(5 << 16)
        .at(0, b"QFI\xfb")
        .be32(4, 3)
        .be32(20, 16)
        .be64(24, 10 * GIB)
        .be32(36, 20)
        .be64(40, 3 << 16)
        .be64(48, 1 << 16)
        .be32(56, 1)
        .be32(96, 4)
        .be32(100, 104)
        // A feature name table, as every writer adds one.
        .be32(104, 0x6803_f857)
        .be32(108, 48)
}

const SPARSE: &str = "# Disk DescriptorFile\nversion=1\nCID=7a3f2b10\nparentCID=ffffffff\n\
    createType=\"monolithicSparse\"\n\n# Extent description\nRW 20971520 SPARSE \"disk.vmdk\"\n\n\
    # The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"20805\"\n";

fn vmdk(descriptor: &str) -> Disk {
    Disk::of(MIB)
        .at(0, b"KDMV")
        .le32(4, 1)
        .le32(8, 3)
        .le64(12, 20_971_520)
        .le64(20, 128)
        .le64(28, 1)
        .le64(36, 20)
        .le32(44, 512)
        .le64(56, 26)
        .at(512, descriptor.as_bytes())
}

fn streamed() -> Disk {
    let text = SPARSE.replace("monolithicSparse", "streamOptimized");
    let disk = vmdk(&text).le32(4, 3).le64(56, u64::MAX);
    let end = disk.0.len();
    let header = disk.0[..512].to_vec();
    disk.le32(end - 1536 + 12, 3).at(end - 1024, &header).le64(end - 1024 + 56, 1_000)
}

fn vdi_disk() -> Disk {
    Disk::of(MIB)
        .at(0, b"<<< Oracle VM VirtualBox Disk Image >>>\n")
        .le32(0x40, 0xbeda_107f)
        .le32(0x44, 0x0001_0001)
        .le32(0x4c, 1)
        .le32(0x154, 512)
        .le32(0x158, 32 << 10)
        .le32(0x168, 512)
        .le64(0x170, 4 * GIB)
        .le32(0x178, MIB as u32)
        .le32(0x180, 4096)
}

fn vhd_footer(disk: Disk, at: usize, kind: u32, size: u64) -> Disk {
    disk.at(at, b"conectix").be64(at + 40, size).be64(at + 48, size).be32(at + 60, kind)
}

fn vhd_dynamic(kind: u32) -> Disk {
    let end = 64 * 1024;
    let disk = vhd_footer(Disk::of(end), 0, kind, 8 * GIB).be64(16, 512).at(512, b"cxsparse");
    let disk = disk.be64(512 + 16, 1536).be32(512 + 28, 4096).be32(512 + 32, 2 << 20);
    vhd_footer(disk, end - 512, kind, 8 * GIB)
}

fn vhdx_disk(parameters: u32) -> Disk {
    let (table, region) = (192 << 10, 2 * MIB);
    let item = 64 << 10;
    let disk = vhdx_header(vhdx_header(Disk::of(4 * MIB), 64 << 10, 1, 0), 128 << 10, 2, 0);
    let disk = disk
        .at(0, b"vhdxfile")
        .at(table, b"regi")
        .le32(table + 8, 1)
        .at(table + 16, &[0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b])
        .at(table + 24, &[0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e])
        .le64(table + 32, region as u64)
        .le32(table + 40, MIB as u32)
        .at(region, b"metadata")
        .at(region + 10, &2_u16.to_le_bytes())
        // File parameters, then the virtual size.
        .at(region + 32, &[0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d])
        .at(region + 40, &[0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b])
        .le32(region + 48, item)
        .le32(region + item as usize, 32 << 20)
        .le32(region + item as usize + 4, parameters)
        .at(region + 64, &[0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48])
        .at(region + 72, &[0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8])
        .le32(region + 80, item + 8)
        .le64(region + item as usize + 8, 6 * GIB);
    regions_twice(disk)
}

/// The second table of regions becomes the same as the first.
fn regions_twice(disk: Disk) -> Disk {
    let table = disk.0[192 << 10..256 << 10].to_vec();
    disk.at(256 << 10, &table)
}

/// With its checksum. `log` is the log's identifier, 0 for none.
fn vhdx_header(disk: Disk, at: usize, number: u64, log: u32) -> Disk {
    let disk = disk.at(at, b"head\0\0\0\0").le64(at + 8, number).le32(at + 48, log);
    let sum = umbel_driver::convert::crc32c(&disk.0[at..at + 4096]);
    disk.le32(at + 4, sum)
}

fn iso() -> Disk {
    Disk::of(64 * 1024).at(32_768, b"\x01CD001\x01")
}

/// In pieces of every awkward size, which must not change the outcome.
fn inspect(claimed: DiskFormat, bytes: &[u8]) -> Outcome<Facts> {
    let whole = inspect_in(claimed, bytes, usize::MAX);
    for piece in [1_000, 4_096, 65_535] {
        assert_eq!(inspect_in(claimed, bytes, piece), whole, "in pieces of {piece}");
    }
    whole
}

fn inspect_in(claimed: DiskFormat, bytes: &[u8], piece: usize) -> Outcome<Facts> {
    let mut inspector = Inspector::new(claimed, LIMIT);
    for chunk in bytes.chunks(piece) {
        inspector.feed(chunk)?;
    }
    inspector.finish()
}

#[track_caller]
fn accepted(claimed: DiskFormat, disk: Disk, content: Content, virtual_size: u64) {
    assert_eq!(inspect(claimed, &disk.0), Ok(Facts { content, virtual_size }), "claimed {claimed}");
}

#[track_caller]
fn refused(claimed: DiskFormat, disk: Disk, words: &str) {
    match inspect(claimed, &disk.0) {
        Ok(facts) => panic!("claimed {claimed}: accepted as {facts:?}"),
        Err(Refusal(reason)) => assert!(reason.contains(words), "claimed {claimed}: '{reason}' lacks '{words}'"),
    }
}

#[test]
fn honest_images_pass() {
    accepted(DiskFormat::Raw, Disk::of(0), Content::Raw, 0);
    accepted(DiskFormat::Raw, Disk::of(1), Content::Raw, 1);
    accepted(DiskFormat::Raw, Disk::of(100_000), Content::Raw, 100_000);
    accepted(DiskFormat::Raw, Disk::of(MIB).at(510, &[0x55, 0xaa]), Content::Mbr, MIB as u64);
    let gpt = Disk::of(MIB).at(510, &[0x55, 0xaa]).at(512, b"EFI PART");
    accepted(DiskFormat::Raw, gpt, Content::Gpt, MIB as u64);
    accepted(DiskFormat::Raw, Disk::of(MIB).at(0, b"LUKS\xba\xbe\0\x01"), Content::Luks, MIB as u64);
    accepted(DiskFormat::Raw, iso(), Content::Iso, 65_536);
    accepted(DiskFormat::Iso, iso().at(510, &[0x55, 0xaa]), Content::Iso, 65_536);
    accepted(DiskFormat::Qcow2, qcow2(), Content::Qcow2, 10 * GIB);
    accepted(DiskFormat::Qcow2, qcow2().be32(4, 2).be32(72, 0), Content::Qcow2, 10 * GIB);
    accepted(DiskFormat::Vmdk, vmdk(SPARSE), Content::Vmdk, 10 * GIB);
    accepted(DiskFormat::Vmdk, streamed(), Content::Vmdk, 10 * GIB);
    accepted(DiskFormat::Vdi, vdi_disk(), Content::Vdi, 4 * GIB);
    accepted(DiskFormat::Vhd, vhd_dynamic(3), Content::Vhd, 8 * GIB);
    let fixed = vhd_footer(Disk::of(MIB + 512), MIB, 2, MIB as u64);
    accepted(DiskFormat::Vhd, fixed, Content::Vhd, MIB as u64);
    accepted(DiskFormat::Vhdx, vhdx_disk(0), Content::Vhdx, 6 * GIB);
    accepted(DiskFormat::Aki, Disk::of(5_000).at(0, b"MZ"), Content::Raw, 5_000);
    accepted(DiskFormat::Ploop, Disk::of(5_000).at(0, b"WithouFreSpacExt"), Content::Ploop, 5_000);
}

#[test]
fn both_formats_are_named_where_they_differ() {
    let wrong = |claimed, disk, content: &str| {
        let words = format!("claims the disk format {claimed}, but its content is {content}");
        refused(claimed, disk, &words);
    };
    wrong(DiskFormat::Raw, qcow2(), "qcow2");
    wrong(DiskFormat::Raw, vmdk(SPARSE), "vmdk");
    wrong(DiskFormat::Raw, vdi_disk(), "vdi");
    wrong(DiskFormat::Raw, vhd_dynamic(3), "vhd");
    wrong(DiskFormat::Raw, vhd_footer(Disk::of(MIB + 512), MIB, 2, MIB as u64), "vhd");
    wrong(DiskFormat::Raw, vhdx_disk(0), "vhdx");
    wrong(DiskFormat::Raw, Disk::of(1_000).at(0, b"QED\0"), "qed");
    wrong(DiskFormat::Raw, Disk::of(1_000).at(0, b"WithoutFreeSpace"), "ploop");
    wrong(DiskFormat::Raw, Disk::of(1_000).at(0, b"Bochs Virtual HD Image"), "bochs");
    wrong(DiskFormat::Raw, Disk::of(1_000).at(0, b"#!/bin/sh\n#V2.0 Format\n"), "cloop");
    wrong(DiskFormat::Qcow2, Disk::of(1_000), "raw");
    wrong(DiskFormat::Qcow2, Disk::of(0), "raw");
    wrong(DiskFormat::Qcow2, vmdk(SPARSE), "vmdk");
    wrong(DiskFormat::Vmdk, Disk::of(MIB), "raw");
    wrong(DiskFormat::Vhd, Disk::of(MIB), "raw");
    wrong(DiskFormat::Iso, Disk::of(MIB), "raw");
    wrong(DiskFormat::Vhd, vhdx_disk(0), "vhdx");
    wrong(DiskFormat::Ami, qcow2(), "qcow2");
    wrong(DiskFormat::Ploop, qcow2(), "qcow2");
}

#[test]
fn descriptors_are_refused_whatever_they_claim() {
    let texts = [
        SPARSE.to_owned(),
        "# DISK descriptorfile\nCID=1\n".to_owned(),
        "#\n\n   \nversion=1\ncreateType=\"monolithicFlat\"\nRW 1 FLAT \"/etc/shadow\" 0\n".to_owned(),
        "version=3\r\n".to_owned(),
    ];
    for text in texts {
        for claimed in DiskFormat::ALL {
            let disk = Disk::of(text.len()).at(0, text.as_bytes());
            refused(claimed, disk, "its content is vmdk (descriptor)");
        }
    }
    accepted(DiskFormat::Raw, Disk::of(20).at(0, b"# version=1\nhello"), Content::Raw, 20);
}

#[test]
fn qcow2_that_refers_elsewhere_is_refused() {
    let no = |disk: Disk, words: &str| refused(DiskFormat::Qcow2, disk, words);
    no(qcow2().be64(8, 1_000).be32(16, 11).at(1_000, b"/etc/shadow"), "backing file");
    no(qcow2().be64(72, 1 << 2), "external data file");
    no(qcow2().be32(104, 0x4441_5441), "external data file");
    no(qcow2().be64(72, 1 << 5), "not known");
    no(qcow2().be64(72, 1 << 63), "not known");
    no(qcow2().be32(32, 1), "encrypted");
    no(qcow2().be32(32, 2), "encrypted");
    no(qcow2().be32(4, 1), "version 1");
    no(qcow2().be32(4, 4), "version 4");
    no(qcow2().be32(20, 8), "cluster size");
    no(qcow2().be32(20, 40), "cluster size");
    no(qcow2().be32(100, 72), "header length");
    no(qcow2().be32(100, 1 << 30), "header length");
    no(qcow2().be32(108, u32::MAX), "too long");
    no(qcow2().be64(24, u64::MAX), "tables");
    no(qcow2().be32(36, u32::MAX), "tables");
    no(qcow2().be32(36, 19), "tables");
    no(qcow2().be64(40, u64::MAX), "tables");
    no(qcow2().be64(24, 8 << 40).be32(36, 16_384), "above the limit");
    no(qcow2().cut(3 << 16), "cut short");
    no(qcow2().cut(60), "ends within its header");
    no(qcow2().be32(104, 0x0537_be77), "encrypted");
    no(qcow2().be64(72, 1 << 1), "corrupt");
    no(qcow2().be64(72, 1 << 3), "compressed by a method");
    no(zstd().at(104, &[2]), "compressed by a method");
    no(zstd().at(104, &[0]), "compressed by a method");
    no(qcow2().be64(72, 1 << 4).be32(20, 13).be32(36, 1 << 20), "cluster size");
    no(qcow2().be32(56, u32::MAX), "reference counts");
    no(qcow2().be32(96, 7), "reference counts");
    no(qcow2().be32(60, u32::MAX), "too many snapshots");
    // What may be set and harms nobody: dirty, compression type, extended entries, snapshots.
    accepted(DiskFormat::Qcow2, zstd().be64(72, 0b1_1001).be32(60, 3), Content::Qcow2, 10 * GIB);
}

/// With a longer header, which tells the method of compression.
fn zstd() -> Disk {
    qcow2().be64(72, 1 << 3).be32(100, 112).at(104, &[1, 0, 0, 0, 0, 0, 0, 0]).be64(112, 0)
}

#[test]
fn tables_that_cannot_be_are_refused() {
    let vdi = |disk: Disk, words: &str| refused(DiskFormat::Vdi, disk, words);
    vdi(vdi_disk().le32(0x178, 512), "unknown size");
    vdi(vdi_disk().le32(0x17c, 1), "unknown size");
    vdi(vdi_disk().le32(0x168, 4096), "unknown size");
    vdi(vdi_disk().le32(0x180, 4095), "does not fit");
    vdi(vdi_disk().le32(0x154, u32::MAX), "does not fit");
    vdi(vdi_disk().le32(0x158, 512), "does not fit");
    vdi(vdi_disk().le32(0x158, u32::MAX), "cut short");
    let vhd = |disk: Disk, words: &str| refused(DiskFormat::Vhd, disk, words);
    vhd(vhd_dynamic(3).be32(512 + 32, 0), "unknown size");
    vhd(vhd_dynamic(3).be32(512 + 32, 1 << 31), "unknown size");
    vhd(vhd_dynamic(3).be32(512 + 28, 4095), "does not fit");
    vhd(vhd_dynamic(3).be64(512 + 16, u64::MAX), "does not fit");
    vhd(vhd_dynamic(3).be64(512 + 16, 1 << 40), "cut short");
    let bad = |disk: Disk, words: &str| refused(DiskFormat::Vmdk, disk, words);
    bad(vmdk(SPARSE).le64(20, 0), "out of range");
    bad(vmdk(SPARSE).le64(20, 129), "out of range");
    bad(vmdk(SPARSE).le64(20, 1 << 40), "out of range");
    bad(vmdk(SPARSE).le32(44, 513), "out of range");
    bad(vmdk(SPARSE).le32(8, 1 << 16), "compressed by a method");
    let region = 2 * MIB + (64 << 10);
    refused(DiskFormat::Vhdx, vhdx_disk(0).le32(region, 0), "unknown size");
    refused(DiskFormat::Vhdx, vhdx_disk(0).le32(region, 1 << 31), "unknown size");
}

/// A log is what somebody else would write over the image before reading it.
#[test]
fn a_vhdx_with_two_faces_is_refused() {
    let no = |disk: Disk, words: &str| refused(DiskFormat::Vhdx, disk, words);
    no(vhdx_header(vhdx_disk(0), 128 << 10, 2, 7), "log has to be replayed");
    no(vhdx_header(vhdx_disk(0), 64 << 10, 3, 7), "log has to be replayed");
    no(vhdx_disk(0).at(64 << 10, b"xxxx").at(128 << 10, b"xxxx"), "no valid header");
    // The newer header counts, and of the headers the valid one.
    let older = vhdx_header(vhdx_disk(0), 64 << 10, 1, 7);
    accepted(DiskFormat::Vhdx, older, Content::Vhdx, 6 * GIB);
    no(vhdx_header(vhdx_disk(0), 64 << 10, 1, 7).le64((128 << 10) + 8, 9), "log has to be replayed");
    no(vhdx_disk(0).le64((256 << 10) + 32, 3 << 20), "two region tables that differ");
    let unknown = vhdx_disk(0).at((192 << 10) + 16, &[9]).le32((192 << 10) + 16 + 28, 1);
    no(regions_twice(unknown), "required and not known");
}

#[test]
fn vmdk_that_refers_elsewhere_is_refused() {
    let no = |disk: Disk, words: &str| refused(DiskFormat::Vmdk, disk, words);
    let with = |from: &str, to: &str| vmdk(&SPARSE.replace(from, to));
    for kind in ["monolithicFlat", "twoGbMaxExtentSparse", "vmfs", "fullDevice", "custom"] {
        no(with("monolithicSparse", kind), "neither monolithicSparse nor streamOptimized");
    }
    no(with("createType", "otherType"), "without a create type");
    no(with("CID=7a3f2b10", "createType=\"monolithicSparse\""), "two create types");
    no(with("parentCID=ffffffff", "parentCID=7a3f2b10"), "parent");
    no(with("CID=7a3f2b10", "parentFileNameHint=\"/etc/shadow\""), "parent");
    no(with("\"disk.vmdk\"", "\"/etc/shadow\""), "outside itself");
    no(with("\"disk.vmdk\"", "\"..\\disk\""), "outside itself");
    no(with("SPARSE", "FLAT"), "not sparse");
    no(with("RW 20971520 SPARSE \"disk.vmdk\"", ""), "names 0 extents");
    let twice = "RW 1 SPARSE \"a\"\nRW 1 SPARSE \"b\"";
    no(with("RW 20971520 SPARSE \"disk.vmdk\"", twice), "names 2 extents");
    no(with("version=1", "include other.vmdk"), "invalid line");
    no(vmdk(SPARSE).le64(12, 0), "capacity");
    no(vmdk(SPARSE).le64(12, u64::MAX), "capacity");
    no(vmdk(SPARSE).le64(12, 1 << 40), "above the limit");
    no(vmdk(SPARSE).le64(28, 0), "descriptor of its own");
    no(vmdk(SPARSE).le64(28, 9), "descriptor of its own");
    no(vmdk(SPARSE).le64(36, 1 << 40), "descriptor of its own");
    no(vmdk(SPARSE).le32(4, 9), "unknown version");
    no(vmdk(SPARSE).at(600, &[0xff]), "no text");
    no(vmdk(SPARSE).at(0, b"COWD"), "COWD");
    no(vmdk(SPARSE).cut(2_000), "ends within its header");
}

#[test]
fn a_footer_must_repeat_the_header() {
    let no = |disk: Disk, words: &str| refused(DiskFormat::Vmdk, disk, words);
    let end = streamed().0.len();
    no(vmdk(SPARSE).le64(56, u64::MAX), "contradicts");
    no(streamed().le64(end - 1024 + 28, 9), "contradicts");
    no(streamed().le64(end - 1024 + 12, 0), "contradicts");
    no(streamed().le64(end - 1024 + 56, u64::MAX), "contradicts");
    no(streamed().le32(end - 512, 1), "contradicts");
    no(streamed().le32(end - 1536 + 12, 2), "contradicts");
}

#[test]
fn differencing_images_are_refused() {
    refused(DiskFormat::Vdi, vdi_disk().le32(0x4c, 4), "parent");
    refused(DiskFormat::Vdi, vdi_disk().le32(0x1a8, 7), "parent");
    refused(DiskFormat::Vdi, vdi_disk().le32(0x1c0, 7), "parent");
    refused(DiskFormat::Vdi, vdi_disk().le32(0x44, 0x0009_0000), "version");
    refused(DiskFormat::Vdi, vdi_disk().le64(0x170, u64::MAX), "does not fit");
    refused(DiskFormat::Vdi, vdi_disk().cut(0x100), "ends within its header");
    refused(DiskFormat::Vhd, vhd_dynamic(4), "parent");
    refused(DiskFormat::Vhd, vhd_dynamic(9), "unknown kind");
    refused(DiskFormat::Vhd, vhd_dynamic(3).at(512 + 40, &[1]), "parent");
    refused(DiskFormat::Vhd, vhd_dynamic(3).at(512 + 576, b"W2ru"), "parent");
    refused(DiskFormat::Vhd, vhd_dynamic(3).at(512, b"xxsparse"), "no header");
    refused(DiskFormat::Vhd, vhd_dynamic(3).be64(16, u64::MAX), "no header");
    refused(DiskFormat::Vhd, vhd_dynamic(3).be64(48, 1 << 50), "does not fit");
    refused(DiskFormat::Vhd, vhd_footer(Disk::of(1_024), 512, 2, GIB), "cut short");
    refused(DiskFormat::Vhdx, vhdx_disk(2), "parent");
    let region = 2 * MIB;
    let parent = [0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c];
    let locator = vhdx_disk(0).at(region + 10, &3_u16.to_le_bytes()).at(region + 96, &parent);
    refused(DiskFormat::Vhdx, locator, "parent");
    refused(DiskFormat::Vhdx, vhdx_disk(0).at(192 << 10, b"xxxx"), "region table");
    refused(DiskFormat::Vhdx, regions_twice(vhdx_disk(0).le32((192 << 10) + 8, u32::MAX)), "too long");
    refused(DiskFormat::Vhdx, regions_twice(vhdx_disk(0).le64((192 << 10) + 32, 0)), "metadata region");
    refused(DiskFormat::Vhdx, regions_twice(vhdx_disk(0).le64((192 << 10) + 32, 1 << 60)), "metadata region");
    refused(DiskFormat::Vhdx, vhdx_disk(0).at(region, b"metadonn"), "metadata table");
    refused(DiskFormat::Vhdx, vhdx_disk(0).at(region + 10, &[0xff, 0xff]), "too long");
    refused(DiskFormat::Vhdx, vhdx_disk(0).le32(region + 80, u32::MAX), "virtual size");
    refused(DiskFormat::Vhdx, vhdx_disk(0).cut(3 * MIB - 1), "ends within its header");
    refused(DiskFormat::Vhdx, vhdx_disk(0).cut(200 << 10), "ends within its header");
}

#[test]
fn two_formats_at_once_are_refused() {
    refused(DiskFormat::Raw, qcow2().at(32_769, b"CD001"), "qcow2 and iso at once");
    refused(DiskFormat::Iso, iso().le32(0x40, 0xbeda_107f), "vdi and iso at once");
    refused(DiskFormat::Qcow2, qcow2().le32(0x40, 0xbeda_107f), "qcow2 and vdi at once");
    let end = 5 << 16;
    refused(DiskFormat::Qcow2, vhd_footer(qcow2(), end - 512, 2, 100), "qcow2 and vhd at once");
    refused(DiskFormat::Iso, vhd_footer(iso(), 65_536 - 512, 2, 100), "but its content is vhd");
}

#[test]
fn what_is_kept_is_bounded() {
    let disk = vhdx_disk(0);
    let mut inspector = Inspector::new(DiskFormat::Vhdx, LIMIT);
    for chunk in disk.0.chunks(10_000) {
        inspector.feed(chunk).unwrap();
        assert!(inspector.window.bytes.len() <= MAX_WINDOW && inspector.tail.len() <= TAIL);
    }
    let mut inspector = Inspector::new(DiskFormat::Raw, LIMIT);
    for _ in 0..100 {
        inspector.feed(&[7; 100_000]).unwrap();
    }
    assert_eq!((inspector.window.bytes.len(), inspector.seen), (0, 10_000_000));
}

#[test]
fn no_header_makes_it_panic() {
    let rng = umbel_core::SeededRng::new(7);
    let starts: [(DiskFormat, Vec<u8>); 5] = [
        (DiskFormat::Qcow2, qcow2().cut(1_000).0),
        (DiskFormat::Vmdk, vmdk(SPARSE).cut(20_000).0),
        (DiskFormat::Vdi, vdi_disk().cut(1_000).0),
        (DiskFormat::Vhd, vhd_dynamic(3).0),
        (DiskFormat::Vhdx, vhdx_disk(0).0),
    ];
    for (claimed, start) in &starts {
        for _ in 0..200 {
            let mut bytes = start.clone();
            for _ in 0..8 {
                let at = umbel_core::Rng::below(&rng, bytes.len().min(2_000));
                let mut value = [0; 1];
                umbel_core::Rng::fill(&rng, &mut value);
                bytes[at] = value[0];
            }
            let _ = inspect_in(*claimed, &bytes, usize::MAX);
        }
    }
}
