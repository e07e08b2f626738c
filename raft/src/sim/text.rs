//! Plans as text that people can read and change: the form in which failing seeds are saved.
//!
//! ```text
//! # what it once found
//! seed 375
//! voters 2
//! at 1834 kill who=leader down_ms=200
//! ```

use super::plan::{Action, Event, Plan, Who};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A value that is one word.
trait Word: Sized {
    fn write(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

macro_rules! plain_words {
    ($($kind:ty)*) => {
        $(impl Word for $kind {
            fn write(&self) -> String {
                self.to_string()
            }
            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        })*
    };
}

plain_words!(u8 u64 bool);

impl Word for Who {
    fn write(&self) -> String {
        match self {
            Who::Node(at) => format!("n{at}"),
            Who::Leader => "leader".into(),
            Who::Others => "others".into(),
        }
    }

    fn read(text: &str) -> Option<Who> {
        match text {
            "leader" => Some(Who::Leader),
            "others" => Some(Who::Others),
            _ => text.strip_prefix('n')?.parse().ok().map(Who::Node),
        }
    }
}

impl Word for Option<u8> {
    fn write(&self) -> String {
        self.map_or("any".into(), |at| at.to_string())
    }

    fn read(text: &str) -> Option<Option<u8>> {
        if text == "any" { Some(None) } else { text.parse().ok().map(Some) }
    }
}

type Words<'a> = BTreeMap<&'a str, &'a str>;

macro_rules! actions {
    ($($name:literal $variant:ident { $($field:ident),* })*) => {
        fn write_action(action: &Action) -> String {
            let mut out = String::new();
            match action {
                $(Action::$variant { $($field),* } => {
                    out.push_str($name);
                    $(let _ = write!(out, " {}={}", stringify!($field), Word::write($field));)*
                })*
            }
            out
        }

        fn read_action(name: &str, words: &Words<'_>) -> Option<Action> {
            match name {
                $($name => Some(Action::$variant { $($field: Word::read(words.get(stringify!($field))?)?),* }),)*
                _ => None,
            }
        }
    };
}

actions! {
    "power" Power { who, down_ms }
    "power_at_op" PowerAtOp { who, ops, down_ms }
    "power_at_start" PowerAtStart { who, ops, down_ms }
    "kill" Kill { who, down_ms }
    "pause" Pause { who, for_ms }
    "disk_error" DiskError { who, ops }
    "short_write" ShortWrite { who, ops }
    "disk_full" DiskFull { who, for_ms }
    "disk_hang" DiskHang { who, for_ms }
    "disk_slow" DiskSlow { who, sync_ms, for_ms }
    "rot" Rot { who, place }
    "wipe" Wipe { who }
    "partition" Partition { side, for_ms }
    "cut_out" CutOut { who, for_ms }
    "cut_in" CutIn { who, for_ms }
    "cut_link" CutLink { from, to, for_ms }
    "flap" Flap { from, to, every_ms, times }
    "rough" Rough { loss_percent, late_ms, for_ms }
    "clock_rate" ClockRate { who, permille }
    "clock_jump" ClockJump { who, ms }
    "add" Add { node, votes }
    "remove" Remove { who }
    "address" Address { who }
    "transfer" Transfer { to }
    "campaign" Campaign { who }
    "burst" Burst { writes }
}

macro_rules! settings {
    ($($field:ident)*) => {
        fn write_settings(plan: &Plan) -> String {
            let mut out = String::new();
            $(let _ = writeln!(out, "{} {}", stringify!($field), plan.$field);)*
            out
        }

        fn read_setting(plan: &mut Plan, name: &str, value: &str) -> Option<()> {
            match name {
                $(stringify!($field) => plan.$field = value.parse().ok()?,)*
                _ => return None,
            }
            Some(())
        }
    };
}

settings! { seed voters strangers clients think_ms duration_ms loss_percent lease_ms by_hand batch_bytes }

impl Plan {
    /// The plan with a comment in front of it.
    pub fn to_text(&self, comment: &str) -> String {
        let mut out: String = comment.lines().map(|line| format!("# {line}\n")).collect();
        out.push_str(&write_settings(self));
        for event in &self.events {
            let _ = writeln!(out, "at {} {}", event.at_ms, write_action(&event.action));
        }
        out
    }

    /// # Errors
    /// The first line that means nothing.
    pub fn from_text(text: &str) -> Result<Plan, String> {
        let mut plan = Plan::of(0);
        plan.events.clear();
        // Older plans do not speak of it.
        plan.by_hand = 0;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            read_line(&mut plan, line).ok_or_else(|| format!("not understood: {line}"))?;
        }
        Ok(plan)
    }
}

fn read_line(plan: &mut Plan, line: &str) -> Option<()> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    if first != "at" {
        return read_setting(plan, first, words.next()?);
    }
    let at_ms = words.next()?.parse().ok()?;
    let name = words.next()?;
    let fields: Words<'_> = words.map(|word| word.split_once('=')).collect::<Option<_>>()?;
    plan.events.push(Event { at_ms, action: read_action(name, &fields)? });
    Some(())
}
