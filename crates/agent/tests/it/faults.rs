//! A bus that loses, doubles and reorders in both directions.

use std::sync::Arc;

use umbel_bus::{Faults, Faulty, Target, ToAgents, ToConductor};
use umbel_core::{Rng, SeededRng};
use uuid::Uuid;

use crate::world::{HOST, World, absent, on, powered};

#[tokio::test]
async fn everything_converges_over_a_bad_bus() {
    let faults = Faults { lose: 25, duplicate: 20, reorder: 20, deny: 10 };
    for seed in 0..5 {
        let world = World::new();
        let image = world.image().await;
        let rng = Arc::new(SeededRng::new(seed));
        let up_rng = rng.clone();
        let _agent = world.agent_with(Vec::new(), move |link| {
            let link: Arc<dyn ToConductor> = Arc::new(link);
            Arc::new(Faulty::<dyn ToConductor>::new(link, faults, up_rng))
        });
        let down: Faulty<dyn ToAgents> = Faulty::new(world.hub.clone(), faults, rng.clone());
        let servers: Vec<Uuid> = (0..20).map(|_| Uuid::new_v4()).collect();
        let mut last = vec![0; servers.len()];
        for round in 0..6 {
            for (at, id) in servers.iter().enumerate() {
                if round > 0 && last[at] == 3 {
                    continue;
                }
                last[at] = if round == 0 { 0 } else { rng.below(4) };
                let desired = match last[at] {
                    0 => world.set(*id, on(*id, &image)),
                    1 => world.set(*id, powered(*id, &image, Target::Off, None)),
                    2 => world.set(*id, powered(*id, &image, Target::On, None)),
                    _ => world.set(*id, absent(*id, "vms")),
                };
                let _ = down.desire(HOST, desired).await;
            }
            tokio::task::yield_now().await;
        }
        for (at, id) in servers.iter().enumerate() {
            let context = format!("seed {seed}, server {at}");
            assert_eq!(world.cell.done(*id).await.fault, None, "{context}");
            match last[at] {
                3 => world.assert_gone(*id, &context).await,
                1 => assert_ne!(world.power(*id).await, Some(umbel_driver::Power::Running), "{context}"),
                _ => world.assert_runs(*id, &context).await,
            }
        }
    }
}
