//! The `myclerk` command.

fn main() -> std::process::ExitCode {
    myclerk::cli::main()
}
