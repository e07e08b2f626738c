//! The `ferrolite` binary: finds out which command is wanted, by the first word or by the name of the program, and
//! runs it on the main thread. It must never do the work of a command itself.

use std::io::Write;
use std::path::Path;

use ferrolite::config::{Config, ConfigError, Launch, ParseError, build_info, help, parse};
use ferrolite::db::version::sqlite_version;
use ferrolite::logging::{self, complain};
use ferrolite::server;

/// Exit status of a failure.
const FAILED: i32 = 1;
/// Exit status of a command line that cannot be read.
const MISUSED: i32 = 2;

const SHORT_HELP: &str = "\
Ferrolite keeps one SQLite database on several machines and serves it over HTTP.

Usage: ferrolite <command> [arguments]

Commands:
  serve    run a node: ferrolite serve [flags] <data directory>
  shell    talk to a node: interactive SQL
  bench    measure a node
  flags    list the flags of serve; with -markdown as Markdown tables
  version  print the version
  help     print this text; `ferrolite serve -h` explains every flag of a node

Under the names rqlited and ferrolited the program behaves as serve, under the name rqlite as shell.
";

/// What the program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Serve,
    Shell,
    Bench,
    Flags,
    Version,
    Help,
}

fn main() {
    std::process::exit(run());
}

fn run() -> i32 {
    let words = match words_of_command_line() {
        Ok(words) => words,
        Err(text) => {
            complain(text);
            return MISUSED;
        }
    };
    let name = program_name(words.first().map_or("ferrolite", String::as_str));
    let (command, usage_name, skip) = match name {
        "rqlited" | "ferrolited" => (Command::Serve, name.to_string(), 1),
        "rqlite" => (Command::Shell, name.to_string(), 1),
        _ => match words.get(1).map(String::as_str) {
            None => {
                complain(SHORT_HELP.trim_end());
                return MISUSED;
            }
            Some(word) => match command_named(word) {
                Some(command) => (command, format!("ferrolite {word}"), 2),
                None => {
                    let hint =
                        if word.starts_with('-') { " (flags stand behind a command, such as serve)" } else { "" };
                    complain(format_args!("unknown command: {word}{hint}\n\n{}", SHORT_HELP.trim_end()));
                    return MISUSED;
                }
            },
        },
    };
    let arguments = &words[skip..];
    match command {
        Command::Serve => serve(name, &usage_name, &words, arguments),
        Command::Shell | Command::Bench => {
            complain(format_args!("fatal: {usage_name} is not part of this build yet"));
            FAILED
        }
        Command::Flags => match arguments {
            [] => print(&help::usage("ferrolite serve")),
            [word] if word == "-markdown" || word == "--markdown" => print(&help::markdown()),
            _ => {
                complain("Usage: ferrolite flags [-markdown]");
                MISUSED
            }
        },
        Command::Version => print(&(build_info::version_line("ferrolite", sqlite_version()) + "\n")),
        Command::Help if arguments == ["serve"] => print(&help::usage("ferrolite serve")),
        Command::Help => print(SHORT_HELP),
    }
}

fn command_named(word: &str) -> Option<Command> {
    Some(match word {
        "serve" => Command::Serve,
        "shell" => Command::Shell,
        "bench" => Command::Bench,
        "flags" => Command::Flags,
        "version" | "-version" | "--version" => Command::Version,
        "help" | "-h" | "-help" | "--help" => Command::Help,
        _ => return None,
    })
}

/// Runs a node: reads its flags, says on stdout and in the log what starts, and hands over to the server.
fn serve(name: &str, usage_name: &str, words: &[String], arguments: &[String]) -> i32 {
    let program = if name == "rqlited" { name } else { "ferrolite" };
    let raw = match parse::parse(arguments) {
        Ok(raw) => raw,
        Err(ParseError::HelpWanted) => {
            complain(help::usage(usage_name).trim_end());
            return 0;
        }
        Err(error) => {
            complain(format_args!("{error}\n{}", help::usage(usage_name).trim_end()));
            return MISUSED;
        }
    };
    if raw.bool("version") {
        complain(build_info::version_line(program, sqlite_version()));
        return 0;
    }
    ferrolite::limits::prepare_process();
    let config = match Config::from_flags(&raw) {
        Ok(config) => config,
        Err(error @ ConfigError::MissingDataDir) => {
            logging::start(log::LevelFilter::Warn);
            log::error!(target: logging::PROCESS, "{error}");
            return FAILED;
        }
        Err(error) => {
            complain(error);
            return FAILED;
        }
    };
    logging::start(config.raft.log_level);
    print(&banner());
    let launch = Launch::new(program, words, sqlite_version());
    announce(&config, &launch);
    server::run(config, launch)
}

/// The lines with which every log begins.
fn announce(config: &Config, launch: &Launch) {
    let (program, version) = (&launch.program, build_info::VERSION);
    log::info!(
        target: logging::PROCESS,
        "{program} starting, version {version}, SQLite {}, commit {}, compiler (toolchain) {}, compiler (command) {}",
        launch.sqlite_version, build_info::COMMIT, build_info::TOOLCHAIN, build_info::COMPILER
    );
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    log::info!(
        target: logging::PROCESS,
        "{}, target architecture is {}, operating system target is {}, {cpus} CPUs",
        build_info::TOOLCHAIN, build_info::arch(), build_info::os()
    );
    log::info!(target: logging::PROCESS, "launch command: {}", launch.command_line);
    for (flag, why) in &config.without_effect {
        log::warn!(target: logging::PROCESS, "-{flag} has no effect in this version: {why}");
    }
}

fn banner() -> String {
    format!(
        "\n  Ferrolite {}\n  SQLite, replicated by Raft and served over HTTP, in one binary.\n\n",
        build_info::VERSION
    )
}

/// Writes to stdout; a closed stdout is a failure only for commands that exist to print.
fn print(text: &str) -> i32 {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => 0,
        Err(_) => FAILED,
    }
}

/// The words of the command line; one that is not UTF-8 is refused, since it could be shown nowhere.
fn words_of_command_line() -> Result<Vec<String>, String> {
    std::env::args_os()
        .map(|word| word.into_string().map_err(|word| format!("argument is not valid UTF-8: {}", word.display())))
        .collect()
}

/// The last part of the path under which the program was called, without `.exe`.
fn program_name(path: &str) -> &str {
    let file = Path::new(path).file_name().and_then(|file| file.to_str()).unwrap_or(path);
    let file = file.rsplit('\\').next().unwrap_or(file);
    match file.len().checked_sub(".exe".len()) {
        Some(stem_len) if file.is_char_boundary(stem_len) && file[stem_len..].eq_ignore_ascii_case(".exe") => {
            &file[..stem_len]
        }
        _ => file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_whatever_its_directory_or_suffix() {
        for (path, name) in [
            ("rqlited", "rqlited"),
            ("/usr/bin/rqlited", "rqlited"),
            ("./rqlite.exe", "rqlite"),
            ("C:\\tools\\rqlited.EXE", "rqlited"),
            ("target/debug/ferrolite", "ferrolite"),
            (".exe", ""),
            ("", ""),
            ("é.exe", "é"),
        ] {
            assert_eq!(program_name(path), name, "{path}");
        }
    }
}
