//! What flags and values were called before, and what to type instead.

/// An old name.
struct Renamed {
    /// The command that had the flag; empty for the server. A value was renamed in every command.
    command: &'static str,
    flag: &'static str,
    /// The value that was renamed; empty where the flag was.
    value: &'static str,
    now: &'static str,
}

const fn flag(command: &'static str, flag: &'static str, now: &'static str) -> Renamed {
    Renamed {
        command,
        flag,
        value: "",
        now,
    }
}

const fn value(flag: &'static str, value: &'static str, now: &'static str) -> Renamed {
    Renamed {
        command: "",
        flag,
        value,
        now,
    }
}

const RENAMED: &[Renamed] = &[
    flag("", "--on-pause", "--on-overload"),
    flag("", "--max-read-delay", "--coalesce TIME"),
    flag("", "--linger", "--coalesce off or --coalesce TIME"),
    flag("", "--busy-reads", "--coalesce off or --coalesce TIME"),
    value("--coalesce", "auto", "a time such as 50ms"),
    value("--when-full", "wait", "block"),
    flag("load", "--tagged", "--numbered"),
    flag("load", "--timed", "--timestamped"),
    flag("load", "--report", "--json -"),
    flag("verify", "--report", "--json -"),
];

/// What an old flag of a command is called now.
pub(super) fn flag_now(command: &str, flag: &str) -> Option<&'static str> {
    now(|renamed| renamed.value.is_empty() && is_of(renamed, command) && renamed.flag == flag)
}

/// What an old value of a flag is called now.
pub(super) fn value_now(flag: &str, value: &str) -> Option<&'static str> {
    now(|renamed| !value.is_empty() && renamed.flag == flag && renamed.value == value)
}

fn now(is_it: impl Fn(&Renamed) -> bool) -> Option<&'static str> {
    let found = RENAMED.iter().find(|renamed| is_it(renamed));
    found.map(|renamed| renamed.now)
}

/// `drainline load` is the command `load`.
fn is_of(renamed: &Renamed, command: &str) -> bool {
    command.trim_start_matches("drainline").trim_start() == renamed.command
}

#[cfg(test)]
mod tests {
    use super::super::settings::flags;
    use super::*;

    #[test]
    fn no_old_name_is_a_flag_of_the_server_still() {
        let flags = flags();
        let of_server = RENAMED.iter().filter(|renamed| renamed.command.is_empty());
        for renamed in of_server {
            let is_known = flags.iter().any(|flag| flag.long() == renamed.flag);
            assert_eq!(is_known, !renamed.value.is_empty(), "{}", renamed.flag);
        }
    }
}
