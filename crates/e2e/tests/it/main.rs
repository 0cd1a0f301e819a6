//! The whole system through real clients. Each test starts a cloud of its own.

mod crash;
mod databases;
mod demo;
mod hostile;
mod main_job;
mod scale;
