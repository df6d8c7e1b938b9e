//! The program: reads the command line, runs it, and is the only module that ends the process.

use std::process::ExitCode;

fn main() -> ExitCode {
    let explain = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The reader has closed the pipe, as in `nightbell silence query | head`: not an error.
        if panic
            .payload_as_str()
            .is_some_and(|text| text.starts_with("failed printing to stdout: Broken pipe"))
        {
            std::process::exit(nightbell::cli::NOBODY_READS.into());
        }
        explain(panic);
    }));
    nightbell::cli::main()
}
