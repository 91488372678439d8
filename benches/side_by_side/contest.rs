//! The rounds of a scenario, in which everybody has a turn.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::args::Args;
use crate::figures::{Figures, Metric};
use crate::peer::Peer;
use crate::provision::Program;
use crate::rounds::{self, Turn};
use crate::scenario::{Entrant, Scenario, Sink};
use crate::servers;
use crate::table::Row;
use crate::{Outcome, owned, provision, tell};

/// With more than this share of the machine gone to others a turn says little.
const DISTURBED: f64 = 0.1;

const WITHOUT_KAFKA: &str = "drainline was built without Kafka; needs cargo bench --features kafka";

/// One who takes part in this run.
struct Player {
    entrant: Entrant,
    program: Option<PathBuf>,
    row: Row,
}

/// All rounds of one scenario. Who goes first changes from round to round.
pub(crate) fn measure(
    scenario: &Scenario,
    args: &Args,
    programs: &mut HashMap<Peer, Program>,
) -> Vec<Row> {
    let scenario = Scenario {
        sink: args.sink.unwrap_or(scenario.sink),
        ..*scenario
    };
    let mut players = players(&scenario, args, programs);
    for round in 0..args.rounds() {
        let count = players.len();
        for turn in 0..count {
            let player = &mut players[(turn + round) % count];
            let Some(program) = &player.program else {
                continue;
            };
            if owned::is_interrupted() {
                continue;
            }
            let label = &player.row.label;
            tell(&format!(
                "{}: round {} of {}: {label}",
                scenario.name,
                round + 1,
                args.rounds()
            ));
            let turn = Turn {
                scenario: &scenario,
                entrant: &player.entrant,
                program,
                is_busy: args.busy,
            };
            match undisturbed(turn, args.retries) {
                Ok(figures) => player.row.rounds.push(figures),
                Err(error) => {
                    tell(&format!("{label}: {error}"));
                    player.row.missing = Some(format!("round {} failed: {error}", round + 1));
                }
            }
        }
    }
    players.into_iter().map(|player| player.row).collect()
}

/// A turn, taken again while others disturb it: the least disturbed of them.
fn undisturbed(turn: Turn<'_>, retries: u8) -> Outcome<Figures> {
    let others = |figures: &Figures| figures.get(Metric::Others).unwrap_or(0.0);
    let mut best = rounds::run(turn)?;
    for _ in 0..retries {
        if others(&best) <= DISTURBED || owned::is_interrupted() {
            break;
        }
        let again = rounds::run(turn)?;
        if others(&again) < others(&best) {
            best = again;
        }
    }
    Ok(best)
}

fn players(scenario: &Scenario, args: &Args, programs: &mut HashMap<Peer, Program>) -> Vec<Player> {
    let mut players = Vec::new();
    for entrant in scenario.entrants {
        if !args.lets_play(entrant.label) {
            continue;
        }
        let program = match entrant.sink.unwrap_or(scenario.sink) {
            Sink::Kafka if !cfg!(feature = "kafka") => Err(WITHOUT_KAFKA.to_owned()),
            _ => programs
                .entry(entrant.peer)
                .or_insert_with(|| {
                    tell(&format!("getting {} ready", entrant.label));
                    provision::program(entrant.peer)
                })
                .clone(),
        };
        let mut player = |label: String, program: &Program| {
            let row = Row {
                label,
                rounds: Vec::new(),
                missing: match program {
                    Ok(program) => unknown_flags(program, entrant),
                    Err(why) => Some(why.clone()),
                },
            };
            // Without flags that it does not know it could still serve, but not over TLS.
            let cannot = entrant.is_over_tls && row.missing.is_some();
            players.push(Player {
                entrant: *entrant,
                program: program.clone().ok().filter(|_| !cannot),
                row,
            });
        };
        player(entrant.label.to_owned(), &program);
        let before = match entrant.peer {
            Peer::Drainline => &args.before,
            Peer::Library => &args.before_bench,
            _ => &None,
        };
        if let Some(other) = before {
            player(format!("{} (before)", entrant.label), &Ok(other.clone()));
        }
    }
    players
}

/// An older build does without what it does not know, and that is said.
fn unknown_flags(program: &Path, entrant: &Entrant) -> Option<String> {
    let over_tls: &[&str] = match (entrant.peer, entrant.is_over_tls) {
        (Peer::Drainline, true) => &["--tls-cert", "FILE"],
        _ => &[],
    };
    let flags = [entrant.flags, over_tls].concat();
    let known = servers::known_flags(program, &flags);
    let unknown: Vec<&str> = flags
        .chunks(2)
        .map(|pair| pair[0])
        .filter(|flag| !known.contains(flag))
        .collect();
    (!unknown.is_empty()).then(|| format!("{}: no such flag in this build", unknown.join(", ")))
}
