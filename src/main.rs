//! The program: reads the command line, runs it, and is the one place that ends the process.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightbell::cli::main()
}
