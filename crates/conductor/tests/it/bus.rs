//! The whole way over a bus that loses, doubles and reorders.

use std::sync::Arc;

use umbel_bus::{Faults, Faulty, ToAgents, ToConductor};
use umbel_compute::model::*;
use umbel_core::{Rng, SeededRng};

use crate::world::World;

#[tokio::test]
async fn servers_live_and_die_over_a_bad_bus() {
    let faults = Faults { lose: 20, duplicate: 20, reorder: 20, deny: 10 };
    for seed in 0..3 {
        let world = World::new().await;
        let rng = Arc::new(SeededRng::new(seed));
        let down: Faulty<dyn ToAgents> = Faulty::new(world.hub.clone(), faults, rng.clone());
        let mut conducting = world.conductor_with(world.config.clone(), Arc::new(down));
        conducting.run();
        let hosts = ["h1", "h2"];
        let _agents = hosts.map(|host| {
            let rng = rng.clone();
            world.agent_over(&world.hub, host, move |link| Arc::new(Faulty::<dyn ToConductor>::new(link, faults, rng)))
        });
        world.hosts(2).await;
        let mut servers = Vec::new();
        for _ in 0..10 {
            servers.push(world.create(&world.server()).await);
            conducting.nudge();
        }
        for id in &servers {
            world.status(*id, Status::Active).await;
        }
        let (stopped, deleted) = servers.split_at(rng.below(10));
        for id in stopped {
            world.act(&conducting.conductor, *id, Action::Stop).await.unwrap();
        }
        for id in deleted {
            world.delete(&conducting.conductor, *id).await;
        }
        for id in stopped {
            world.status(*id, Status::Shutoff).await;
        }
        for id in deleted {
            world.status(*id, Status::Deleted).await;
        }
        world.quiet("bad bus").await;
        world.assert_no_orphans(&hosts, &format!("bad bus, seed {seed}")).await;
    }
}
