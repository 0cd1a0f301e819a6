use umbel_core::{Result, Timestamp};
use umbel_db::{Db, tx};

use crate::Api;
use crate::store::flavors::{self, Flavor};

/// Name, id, vCPUs, MiB of memory, GiB of disk: the sizes that everybody's documentation names, and a smaller one that
/// a laptop without KVM can boot.
const FLAVORS: &[(&str, &str, u32, u64, u64)] = &[
    ("m1.nano", "42", 1, 128, 1),
    ("m1.tiny", "1", 1, 512, 1),
    ("m1.small", "2", 1, 2_048, 20),
    ("m1.medium", "3", 2, 4_096, 40),
    ("m1.large", "4", 4, 8_192, 80),
    ("m1.xlarge", "5", 8, 16_384, 160),
];

/// Makes the flavors of a new cloud; one that has any is left as it is.
pub async fn bootstrap(db: &Db<Api>, now: Timestamp) -> Result<()> {
    tx!(db, "bootstrap flavors", |tx| {
        if flavors::any(tx).await? {
            return Ok(());
        }
        for (name, id, vcpus, memory_mib, root_gib) in FLAVORS {
            let flavor = Flavor {
                id: (*id).to_owned(),
                name: (*name).to_owned(),
                vcpus: *vcpus,
                memory_mib: *memory_mib,
                root_gib: *root_gib,
                ephemeral_gib: 0,
                swap_mib: 0,
                rxtx_factor: "1.0".to_owned(),
                is_public: true,
                description: None,
                extra_specs: Default::default(),
                created_at: now,
                updated_at: None,
            };
            flavors::insert(tx, &flavor).await?;
        }
        Ok(())
    })
}
