//! The binary `sluice-gateway`; all of it is in [`host::cli`].

fn main() -> std::process::ExitCode {
    host::cli::main()
}
