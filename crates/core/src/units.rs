/// Bytes in a mebibyte. Flavors give memory in MiB.
pub const MIB: u64 = 1 << 20;

/// Bytes in a gibibyte. Flavors and volumes give disks in GiB.
pub const GIB: u64 = 1 << 30;

/// Whole GiB that hold `bytes`: what an image or a disk counts for against a flavor's or a quota's GiB.
pub const fn bytes_to_gib_ceil(bytes: u64) -> u64 {
    bytes.div_ceil(GIB)
}
