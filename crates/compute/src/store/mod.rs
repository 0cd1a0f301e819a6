//! Tables, one file per noun: free functions over a transaction. Those over `Tx<Api>` and those over `Tx<Cell>` cannot
//! be mixed up; a read of a tenant's rows takes whose rows it may see.

pub mod actions;
pub mod audit;
pub mod block_devices;
pub mod build_requests;
pub mod cells;
pub mod disks;
pub mod flavors;
pub mod keypairs;
pub mod quotas;
pub mod server_list;
pub mod server_map;
pub mod servers;
