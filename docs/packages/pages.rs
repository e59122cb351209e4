//! Writes the man pages and the completions of bash, zsh and fish into a folder, for a package:
//! `cargo run --release --example pages -- FOLDER`.

use clap_complete::{Shell, generate_to};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("a folder is missing")?;
    let folder = Path::new(&folder);
    let mut command = strandline::cli::command();
    // They describe the commands, not the help on them.
    command = command.disable_help_subcommand(true);
    let man = folder.join("man");
    let completions = folder.join("completions");
    for folder in [&man, &completions] {
        std::fs::create_dir_all(folder)?;
    }
    clap_mangen::generate_to(command.clone(), man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "strandline", &completions)?;
    }
    Ok(())
}
