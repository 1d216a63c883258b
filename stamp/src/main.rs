//! The binary `sluice-stamp`; all of it is in [`stamp::cli`].

fn main() -> std::process::ExitCode {
    stamp::cli::main()
}
