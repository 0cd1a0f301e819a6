//! The whole system through real clients. Each test starts a cloud of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod apart;
mod audit;
mod backups;
mod clusters;
mod crash;
mod databases;
mod demo;
mod faults;
mod graph;
mod groups;
mod hostile;
mod integrity;
mod livemove;
mod main_job;
mod operator;
mod scale;
mod serve;
mod sharing;
mod site;
mod storage;
mod storage_crash;
mod stores;
mod strays;
mod takeover;
mod twins;
