//! `completions`: what shells complete.

use clap::Command;
use clap_complete::{Shell, generate};

use super::print;

/// Prints the script of a shell, without hidden commands.
pub(crate) fn completions(shell: Shell, command: &Command) {
    let visible = command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set());
    let name = env!("CARGO_PKG_NAME");
    let mut shown = Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments())
        .subcommands(visible);
    let mut script = Vec::new();
    generate(shell, &mut shown, name, &mut script);
    let script = String::from_utf8_lossy(&script);
    // clap_complete writes a hyphen in two ways, so that bash knows no options of subcommands
    // (clap issue 6421)
    print(&script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__")));
}
