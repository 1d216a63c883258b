//! The binary `sluice-plugin`; all of it is in [`kit::cli`].

fn main() -> std::process::ExitCode {
    kit::cli::main()
}
