//! Claims on real databases of every engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use umbel_core::{Kind, Timestamp};
use umbel_db::{Db, Migration, Schema, read, tx};
use umbel_placement::*;
use uuid::Uuid;

struct Inventory;

impl Schema for Inventory {
    const NAME: &'static str = "inventory";
    const MIGRATIONS: &'static [Migration] = &[Migration { version: 1, name: "tables", statements: TABLES }];
}

impl InCell for Inventory {}

const NOW: Timestamp = Timestamp(1_000);

fn consumer(number: u128) -> ConsumerId {
    ConsumerId::from_uuid(Uuid::from_u128(number))
}

/// Two hosts with 4 vCPUs (16 promised) and 4 GiB, each with a disk of 100 bytes (200 promised), and one pool for both.
async fn inventory(db: &Db<Inventory>) -> (Vec<Host>, Vec<Pool>) {
    tx!(db, "inventory", |tx| {
        for (number, name) in [(1, "h1"), (2, "h2")] {
            let update = HostUpdate {
                name,
                zone: "nova",
                facts: "{}",
                vcpus: 4,
                memory_mib: 4_608,
                memory_reserved_mib: 512,
                cpu_ratio: Ratio::CPU,
                memory_ratio: Ratio::MEMORY,
                now: NOW,
            };
            let host = upsert_host(tx, HostId::from_uuid(Uuid::from_u128(number)), &update).await?;
            for (pool, shared) in [("local", false), ("vms", true)] {
                let update = PoolUpdate {
                    name: pool,
                    host: host.id,
                    shared,
                    driver: "simulated",
                    tier: "ssd",
                    total: 100,
                    free: 90,
                    ratio: Ratio(2_000),
                    now: NOW,
                };
                let id = PoolId::from_uuid(Uuid::from_u128(number * 10 + u128::from(shared)));
                upsert_pool(tx, id, &update).await?;
            }
        }
        Ok(())
    })
    .unwrap();
    read!(db, "inventory", |tx| Ok((hosts(tx).await?, pools(tx).await?))).unwrap()
}

#[tokio::test]
async fn pools_are_shared_or_of_one_host() {
    for temp in umbel_db::testing::open_all::<Inventory>().await {
        inventory(&temp.db).await;
        // A report that comes again adds nothing.
        let (hosts, pools) = inventory(&temp.db).await;
        assert_eq!(hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(), ["h1", "h2"]);
        assert_eq!((hosts[0].room_vcpus(), hosts[0].room_memory_mib()), (16, 4_096));
        let got: Vec<_> = pools.iter().map(|pool| (pool.name.as_str(), pool.reach, pool.hosts.len())).collect();
        let local = |host: &Host| ("local", Reach::Host(host.id), 1);
        assert_eq!(got, [local(&hosts[0]), local(&hosts[1]), ("vms", Reach::Shared, 2)]);
        assert_eq!(pools[2].room(), 200);
    }
}

#[tokio::test]
async fn a_claim_takes_room_once_and_gives_it_back_once() {
    for temp in umbel_db::testing::open_all::<Inventory>().await {
        let (hosts_before, pools_before) = inventory(&temp.db).await;
        let ask = Claim {
            consumer: consumer(1),
            host: hosts_before[0].id,
            vcpus: 3,
            memory_mib: 1_024,
            disks: vec![DiskClaim { pool: pools_before[2].id, bytes: 150 }],
        };
        for _ in 0..2 {
            tx!(temp.db, "claim", |tx| claim(tx, &ask, NOW).await).unwrap();
        }
        let (host, all) = read!(temp.db, "after", |tx| Ok((host(tx, ask.host).await?, pools(tx).await?))).unwrap();
        let host = host.unwrap();
        assert_eq!((host.vcpus_used, host.memory_mib_used, all[2].used), (3, 1_024, 150));

        // What does not fit takes nothing, not even what would have fitted.
        let refusals = [
            (Claim { consumer: consumer(2), vcpus: 14, disks: vec![], ..ask.clone() }, "vCPUs"),
            (Claim { consumer: consumer(2), memory_mib: 3_073, disks: vec![], ..ask.clone() }, "memory"),
            (Claim { consumer: consumer(2), ..ask.clone() }, "Pool vms is full"),
        ];
        for (refused, reason) in refusals {
            let error = tx!(temp.db, "claim", |tx| claim(tx, &refused, NOW).await).unwrap_err();
            assert_eq!(error.kind(), Kind::NoSpace);
            assert!(error.message().contains(reason), "{error}");
        }
        tx!(temp.db, "disable", |tx| disable(tx, ask.host, "broken fan", NOW).await).unwrap();
        let small = Claim { consumer: consumer(2), vcpus: 1, memory_mib: 1, disks: vec![], ..ask.clone() };
        let error = tx!(temp.db, "claim", |tx| claim(tx, &small, NOW).await).unwrap_err();
        assert!(error.message().contains("disabled"), "{error}");

        for _ in 0..2 {
            tx!(temp.db, "release", |tx| release(tx, ask.consumer).await).unwrap();
        }
        let (hosts_after, pools_after, drift) =
            read!(temp.db, "after", |tx| Ok((hosts(tx).await?, pools(tx).await?, audit(tx).await?))).unwrap();
        assert_eq!((hosts_after[0].vcpus_used, hosts_after[0].memory_mib_used), (0, 0));
        assert_eq!(pools_after, pools_before);
        assert_eq!(drift, []);
    }
}

#[tokio::test]
async fn claims_at_once_never_take_more_than_there_is() {
    for temp in umbel_db::testing::open_all::<Inventory>().await {
        let (hosts_before, pools_before) = inventory(&temp.db).await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..30 {
            let (db, host, pool) = (temp.db.clone(), hosts_before[number % 2].id, pools_before[2].id);
            tasks.spawn(async move {
                let disks = vec![DiskClaim { pool, bytes: 10 }];
                let ask = Claim { consumer: consumer(number as u128), host, vcpus: 1, memory_mib: 512, disks };
                match tx!(db, "claim", |tx| claim(tx, &ask, NOW).await) {
                    Ok(()) => true,
                    Err(error) if error.is(Kind::NoSpace) => false,
                    Err(error) => panic!("{}", error.for_log()),
                }
            });
        }
        let won = tasks.join_all().await.into_iter().filter(|won| *won).count();
        // 4,096 MiB on each of two hosts, 512 MiB each.
        assert_eq!(won, 16);
        let (after, drift) = read!(temp.db, "after", |tx| Ok((hosts(tx).await?, audit(tx).await?))).unwrap();
        assert!(after.iter().all(|host| host.memory_mib_used == 4_096 && host.vcpus_used == 8));
        assert_eq!(drift, []);
    }
}

#[tokio::test]
async fn heartbeats_are_batched() {
    for temp in umbel_db::testing::open_all::<Inventory>().await {
        inventory(&temp.db).await;
        let names = ["h1".to_owned(), "h2".to_owned(), "unknown".to_owned()];
        let count = tx!(temp.db, "seen", |tx| seen(tx, &names, Timestamp(5_000)).await).unwrap();
        assert_eq!(count, 2);
        let all = read!(temp.db, "after", |tx| hosts(tx).await).unwrap();
        assert!(all.iter().all(|host| host.last_seen == Timestamp(5_000)));
    }
}
