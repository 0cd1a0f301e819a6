use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    umbel::cli::main(umbel::cli::Cli::parse())
}
