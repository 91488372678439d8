//! The same load against drainline and its peers, one after the other in each round, and one table with ratios.
//!
//! `cargo bench --bench side_by_side -- --scenario bulk-128`; `--list` names the scenarios. Only ratios within one run mean
//! something: absolute figures are the machine's.

mod args;
mod echo;
mod fifo;
mod figures;
mod load;
mod machine;
mod proc;
mod process;
mod provision;
mod rounds;
mod scenario;
mod scenarios;
mod servers;
mod table;

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use args::Args;
use rounds::Turn;
use scenario::{Entrant, Scenario};
use servers::{Peer, Program};
use table::Row;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let ran = match (words.next().as_deref(), words.next()) {
        (Some(echo::ARGUMENT), Some(address)) => echo::serve(&address),
        _ => bench(&Args::read()),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("side_by_side: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &Args) -> Outcome<()> {
    if args.list {
        for scenario in scenarios::all() {
            print(&format!("{:<24}{}\n", scenario.name, scenario.what));
        }
        return Ok(());
    }
    let chosen: Vec<&Scenario> = scenarios::all()
        .filter(|scenario| args.chooses(scenario.name))
        .collect();
    args.check(&chosen)?;
    raise_descriptor_limit()?;
    let (machine, versions) = (machine::describe(), machine::versions());
    print(&format!(
        "{machine}\n{versions}\nmedians of {} rounds\n",
        args.rounds()
    ));
    let mut programs = HashMap::new();
    let mut results: Vec<Value> = Vec::new();
    for scenario in chosen {
        let rows = measure(scenario, args, &mut programs);
        print(&table::text(scenario, &rows));
        results.push(table::json(scenario, &rows));
        if let Some(path) = &args.json {
            let all = json!({
                "machine": machine,
                "versions": versions,
                "rounds": args.rounds(),
                "scenarios": results,
            });
            fs::write(path, format!("{all:#}\n"))?;
        }
    }
    Ok(())
}

/// One who takes part in this run.
struct Player {
    entrant: Entrant,
    program: Option<PathBuf>,
    row: Row,
}

/// All rounds of one scenario. Who goes first changes from round to round.
fn measure(scenario: &Scenario, args: &Args, programs: &mut HashMap<Peer, Program>) -> Vec<Row> {
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
            tell(&format!(
                "{}: round {} of {}: {}",
                scenario.name,
                round + 1,
                args.rounds(),
                player.row.label
            ));
            let figures = rounds::run(Turn {
                scenario: &scenario,
                entrant: &player.entrant,
                program,
            });
            match figures {
                Ok(figures) => player.row.rounds.push(figures),
                Err(error) => {
                    tell(&format!("{}: {error}", player.row.label));
                    player.row.missing = Some(format!("round {} failed: {error}", round + 1));
                }
            }
        }
    }
    players.into_iter().map(|player| player.row).collect()
}

fn players(scenario: &Scenario, args: &Args, programs: &mut HashMap<Peer, Program>) -> Vec<Player> {
    let mut players = Vec::new();
    for entrant in scenario.entrants {
        if !args.lets_play(entrant.label) {
            continue;
        }
        let program = programs
            .entry(entrant.peer)
            .or_insert_with(|| {
                tell(&format!("getting {} ready", entrant.label));
                provision::program(entrant.peer)
            })
            .clone();
        let mut player = |label: String, program: &Program| {
            let row = Row {
                label,
                rounds: Vec::new(),
                missing: match program {
                    Ok(program) => unknown_flags(program, entrant),
                    Err(why) => Some(why.clone()),
                },
            };
            players.push(Player {
                entrant: *entrant,
                program: program.clone().ok(),
                row,
            });
        };
        player(entrant.label.to_owned(), &program);
        if let (Peer::Drainline, Some(other)) = (entrant.peer, &args.before) {
            player(format!("{} (before)", entrant.label), &Ok(other.clone()));
        }
    }
    players
}

/// An older build does without what it does not know, and that is said.
fn unknown_flags(program: &Path, entrant: &Entrant) -> Option<String> {
    let known = servers::known_flags(program, entrant.flags);
    let unknown: Vec<&str> = entrant
        .flags
        .chunks(2)
        .map(|pair| pair[0])
        .filter(|flag| !known.contains(flag))
        .collect();
    (!unknown.is_empty()).then(|| format!("{}: no such flag in this build", unknown.join(", ")))
}

/// Thousands of connections are held here, and in servers that take over this process's limit.
fn raise_descriptor_limit() -> Outcome<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?;
    Ok(())
}

/// To stdout: the tables.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// To stderr: how far it is.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
