//! The program `leapfrog`; everything is in the library.

use std::io::Write;

fn main() {
    let code = leapfrog::cli::main();
    // A login that hangs, or is being closed, has a thread in OpenSSL still. What OpenSSL does when a
    // process returns from here would free its locks under that thread; so nothing is done any more.
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    signal_hook::low_level::exit(code.into());
}
