//! What a server is, and how it changes: pure functions without clock, database or bus.
//!
//! Stored is little: what is wanted ([`Want`] with its generation), what was observed (power with the generation it
//! belongs to), the stage of life and the task under way. `status`, `vm_state`, `task_state` and `power_state` of the
//! API are read off that by [`project`]; nobody sets them. The refused alternative, four columns that every operation
//! sets by hand, is how servers get stuck between two of them.

mod images;
mod networks;
mod observe;
mod project;
mod server;
mod spec;
mod transition;
mod volumes;

pub use images::{imaged, imaging, may_image};
pub use networks::Networks;
pub use observe::{Change, Closed, observe};
pub use project::{Projection, Status, VmState, project};
pub use server::{Fault, HostRef, Life, Lock, Server, ServerId, State, Task, Want};
pub use spec::{
    BuildRequest, CONFIG_DRIVE_BYTES, DiskConfig, DiskPlan, DiskSource, FlavorSnapshot, ImageSnapshot, KeySnapshot,
    ServerSpec,
};
pub use transition::{Action, deleted, failed, leave, place, reset, transition, vacated};
pub use volumes::{
    BlockDevice, BlockDeviceId, Connection, Moving, Phase, VolumeOrigin, VolumeToMake, connect_all, device_name, edit,
    end_move, extend, may_change_volumes, move_to, plug, plug_again, unplug,
};

pub use umbel_bus::{Power, Restart};

#[cfg(test)]
pub(crate) mod testing;
