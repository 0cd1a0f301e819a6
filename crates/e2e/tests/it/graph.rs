//! What a running guest's QEMU was told of its system disk, and what it does with it: flow A.9, as its process shows it.
//! (The QMP socket serves one client, and umbel is that one.)

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde_json::Value;
use tokio::process::Command;
use umbel_testkit::{ceph_conf, until};

use crate::site::{SLOW, Site};

/// The root disk is RBD, opened by QEMU itself with the configured user, shown to the guest by virtio; the process talks to
/// the monitors; Ceph knows who has the image open; and the user's key is nowhere where other users of the host see it.
pub async fn is_rbd(site: &Site, server: &str, pool: &str, image: &str) {
    let process = process(site, server);
    let arguments = read(&process.join("cmdline"));
    let arguments: Vec<&str> = arguments.split('\0').collect();
    let given = |option: &str| -> Vec<Value> {
        let pairs = arguments.windows(2).filter(|pair| pair[0] == option);
        pairs.map(|pair| serde_json::from_str(pair[1]).unwrap()).collect()
    };
    let nodes = given("-blockdev");
    let node = nodes.iter().find(|node| node["file"]["image"] == image).unwrap_or_else(|| panic!("{nodes:?}"));
    let file = &node["file"];
    assert_eq!(
        (&node["driver"], &file["driver"], &file["pool"]),
        (&"raw".into(), &"rbd".into(), &pool.into()),
        "{node}"
    );
    assert_eq!((file["user"].as_str(), file["conf"].as_str()), (Some("admin"), ceph_conf().to_str()), "{node}");
    let devices = given("-device");
    let device = devices.iter().find(|device| device["drive"] == node["node-name"]).unwrap();
    assert_eq!((&device["driver"], &device["bootindex"]), (&"virtio-blk-pci".into(), &0.into()), "{device}");

    let key = ceph(&["auth", "get-key", "client.admin"]).await;
    let key = key.trim();
    assert!(key.len() > 20, "the user has a key");
    for seen in ["cmdline", "environ"] {
        assert!(!read(&process.join(seen)).contains(key), "the key is in {seen}");
    }
    let monitors = monitors().await;
    until::yes("QEMU is connected to a monitor", SLOW, async || {
        let peers = peers(&process);
        monitors.iter().any(|monitor| peers.contains(monitor))
    })
    .await;
    let ceph = site.ceph.as_ref().unwrap();
    until::yes("the image is open", SLOW, async || ceph.watchers(pool, image).await > 0).await;
}

/// `/proc/<pid>` of the server's guest.
fn process(site: &Site, server: &str) -> PathBuf {
    let home = site.dir().canonicalize().unwrap().join("guests").join(server);
    let home = format!("path={}/", home.display());
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let mut ours = all.filter(|path| {
        let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&home)
    });
    ours.next().unwrap_or_else(|| panic!("no process has {home} on its command line"))
}

fn read(path: &std::path::Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

async fn ceph(args: &[&str]) -> String {
    let output = Command::new("ceph").arg("-c").arg(ceph_conf()).args(args).output().await.unwrap();
    assert!(output.status.success(), "ceph {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn monitors() -> Vec<SocketAddr> {
    let map: Value = serde_json::from_str(&ceph(&["mon", "dump", "--format", "json"]).await).unwrap();
    let monitors = map["mons"].as_array().unwrap().iter();
    let addresses = monitors.flat_map(|one| one["public_addrs"]["addrvec"].as_array().unwrap());
    addresses.map(|one| one["addr"].as_str().unwrap().parse().unwrap()).collect()
}

/// The other ends of the process's TCP connections, by IPv4.
fn peers(process: &std::path::Path) -> HashSet<SocketAddr> {
    let links = std::fs::read_dir(process.join("fd")).unwrap().flatten();
    let links = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let sockets: HashSet<String> =
        links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    let table = read(&process.join("net/tcp"));
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Columns: number, own address, the other's, state, …, inode as the tenth.
    lines.filter(|line| sockets.contains(line[9])).map(|line| address(line[2])).collect()
}

/// `0100007F:A53C`: the address as the machine keeps it, and the port, in hexadecimal digits.
fn address(text: &str) -> SocketAddr {
    let (address, port) = text.split_once(':').unwrap();
    let address = u32::from_str_radix(address, 16).unwrap().to_ne_bytes();
    SocketAddr::new(IpAddr::from(address), u16::from_str_radix(port, 16).unwrap())
}
