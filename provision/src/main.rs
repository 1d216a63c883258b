//! The binary `sluice-provision`; all of it is in [`provision::cli`].

fn main() -> std::process::ExitCode {
    provision::cli::main()
}
