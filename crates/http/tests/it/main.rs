#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests and what helps them")]

mod access;
mod bodies;
mod faults;
mod observed;
mod paging;
mod routing;
mod rules;
mod sockets;
mod support;
mod tls;
mod versions;
