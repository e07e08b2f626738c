//! The command line: `--name value` pairs after the mode. No more than that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

/// The pairs that were given; each mode takes what it knows.
pub struct Args {
    pairs: BTreeMap<String, String>,
}

impl Args {
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Args, String> {
        let mut pairs = BTreeMap::new();
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("{word:?}: expected --name"))?.to_owned();
            let value = words.next_if(|next| !next.starts_with("--")).unwrap_or_else(|| "true".into());
            pairs.insert(name, value);
        }
        Ok(Args { pairs })
    }

    /// Takes a value out, so that [`Args::finish`] can name what nobody took.
    pub fn take<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, String> {
        match self.pairs.remove(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("--{name} {text:?}: not understood")),
        }
    }

    /// Called before a cluster is made: a word that nobody knows must not come to light after an hour's run.
    pub fn finish(&self) -> Result<(), String> {
        match self.pairs.keys().next() {
            Some(name) => Err(format!("--{name}: this mode does not know it")),
            None => Ok(()),
        }
    }

    /// The server's binary: `--server`, or the one that was built beside this program.
    pub fn server(&mut self) -> Result<PathBuf, String> {
        let beside = std::env::current_exe().ok().and_then(|me| Some(me.parent()?.join("ferrolite")));
        let path: PathBuf = self.take("server", beside.unwrap_or_else(|| "ferrolite".into()))?;
        match path.is_file() {
            true => Ok(path),
            false => Err(format!("{}: there is no such file; --server names the binary", path.display())),
        }
    }

    /// Flags that every node gets besides those of the run.
    pub fn flags(&mut self) -> Result<Vec<String>, String> {
        let timings: String = self.take("timings", "default".into())?;
        let more: String = self.take("flags", String::new())?;
        let mut flags: Vec<String> = match timings.as_str() {
            "default" => Vec::new(),
            "fast" => FAST_TIMINGS.iter().map(|flag| (*flag).to_owned()).collect(),
            other => return Err(format!("--timings {other:?}: fast or default")),
        };
        flags.extend(more.split_whitespace().map(str::to_owned));
        Ok(flags)
    }
}

/// The shortest that is sane on one machine: a heartbeat goes out several times within each.
const FAST_TIMINGS: [&str; 3] =
    ["-raft-heartbeat-timeout=200ms", "-raft-election-timeout=200ms", "-raft-leader-lease-timeout=150ms"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_taken_once() {
        let words = ["--seed", "7", "--keep", "--nemesis", "mix"].into_iter().map(str::to_owned);
        let mut args = Args::parse(words).expect("well formed");
        assert_eq!(args.take("seed", 1u64), Ok(7));
        assert_eq!(args.take("keep", false), Ok(true));
        assert_eq!(args.take("seconds", 60u64), Ok(60));
        assert!(args.finish().is_err(), "nobody took the nemesis");
        assert!(Args::parse(["seed"].into_iter().map(str::to_owned)).is_err());
    }
}
