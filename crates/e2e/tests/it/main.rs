//! The whole system through real clients. Each test starts a cloud of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod apart;
mod audit;
mod crash;
mod databases;
mod demo;
mod hostile;
mod integrity;
mod main_job;
mod scale;
mod serve;
mod storage;
