//! Vocabulary that every other crate shares. No IO and no async runtime: what stands here can be used by the purest
//! code (the scheduler, the version patches) without dragging anything in.

mod ctx;
mod error;
mod id;
mod logs;
mod rng;
mod time;
mod units;

pub use ctx::{AccessRule, AppCredential, Ctx, OnBehalf, Principal, RoleName, Scope, SystemScope, Trust};
pub use error::{Error, Kind, Result};
pub use id::{Generation, Id};
pub use logs::{LogFilter, LogLevel, install_log_filter, log_filter};
pub use rng::{Rng, SeededRng, SystemRng};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
pub use units::{GIB, MIB, bytes_to_gib_ceil};
