//! The assembly: configuration, command line, and [`compose`], the one file that names concrete drivers.

pub mod bench;
mod certs;
pub mod cli;
pub mod compose;
pub mod config;
pub mod demo;
mod doctor;
mod inprocess;
mod logs;
mod neighbours;
mod progress;
pub mod roles;
pub mod running;
mod services;
pub mod state;
pub mod storage;
mod up;
mod volumes;
