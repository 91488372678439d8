//! How damage is told.

use serde_json::{Value, json};

use crate::cli::units::counted;

use super::sequence_check::{Damage, SequenceCheck, Torn};

/// Ranges of missing messages that are told of one connection.
const RANGES: usize = 5;

/// The report, ended by LF.
pub(super) fn text(check: &SequenceCheck, show: usize) -> String {
    let mut text = String::new();
    let mut damaged = check.damaged();
    for (connection, damage) in damaged.by_ref().take(show) {
        text += &format!("connection {connection}: {}\n", told(damage));
    }
    let more = damaged.count();
    if more > 0 {
        text += &format!("and {}\n", counted(more as u64, "more connection"));
    }
    for torn in check.first_torn() {
        text += &format!(
            "torn at byte {}: {}: {}\n",
            torn.offset, torn.why, torn.text
        );
    }
    let total = check.total();
    if total.is_nothing() {
        return "nothing to verify: the input holds no message\n".to_owned();
    }
    let more = total.torn - check.first_torn().len() as u64;
    if more > 0 {
        text += &format!("and {}\n", counted(more, "more torn message"));
    }
    if total.is_rough {
        text +=
            "there are too many gaps to keep: what arrived very late is counted as duplicated\n";
    }
    text + &format!(
        "{} of {}: {} missing, {} duplicated, {} torn, {} misordered, {} unexpected; {} absent\n",
        counted(total.messages, "message"),
        counted(total.connections, "connection"),
        total.missing,
        total.duplicated,
        total.torn,
        total.misordered,
        total.unexpected,
        counted(total.absent, "connection")
    )
}

fn told(damage: &Damage) -> String {
    let mut parts = Vec::new();
    if damage.is_absent {
        parts.push("nothing arrived".to_owned());
    }
    if damage.missing() > 0 {
        let ranges: Vec<String> = ranges(damage)
            .map(|(first, last)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            })
            .collect();
        let more = if damage.gaps.len() > RANGES {
            ", ..."
        } else {
            ""
        };
        let ranges = ranges.join(", ");
        parts.push(format!("{} missing ({ranges}{more})", damage.missing()));
    }
    for (count, what) in [
        (damage.duplicated, "duplicated"),
        (damage.torn, "torn"),
        (damage.misordered, "misordered"),
        (damage.unexpected, "unexpected"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    parts.join(", ")
}

/// The first ranges that are missing, their last ones included.
fn ranges(damage: &Damage) -> impl Iterator<Item = (u64, u64)> {
    let first = damage.gaps.iter().take(RANGES);
    first.map(|(first, end)| (*first, end - 1))
}

pub(super) fn json(check: &SequenceCheck, show: usize) -> Value {
    let total = check.total();
    let damaged: Vec<Value> = check
        .damaged()
        .take(show)
        .map(|(connection, damage)| {
            json!({
                "connection": connection,
                "missing": damage.missing(),
                "missing_ranges": ranges(damage).map(|(first, last)| [first, last]).collect::<Vec<_>>(),
                "duplicated": damage.duplicated,
                "torn": damage.torn,
                "misordered": damage.misordered,
                "unexpected": damage.unexpected,
                "absent": damage.is_absent,
            })
        })
        .collect();
    let torn = |torn: &Torn| json!({"offset": torn.offset, "why": torn.why, "text": torn.text, "connection": torn.connection});
    json!({
        "messages": total.messages,
        "connections": total.connections,
        "missing": total.missing,
        "duplicated": total.duplicated,
        "torn": total.torn,
        "misordered": total.misordered,
        "unexpected": total.unexpected,
        "absent": total.absent,
        "rough": total.is_rough,
        "clean": total.is_clean(),
        "nothing": total.is_nothing(),
        "damaged": damaged,
        "damaged_connections": check.damaged().count(),
        "first_torn": check.first_torn().iter().map(torn).collect::<Vec<_>>(),
    })
}
