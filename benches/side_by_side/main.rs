//! The same load against drainline and its peers, one after the other in each round, and one table
//! with ratios.
//!
//! `cargo bench --bench side_by_side -- --scenario bulk-128`; `--list` names the scenarios. Only
//! ratios within one run mean something: absolute figures are the machine's.
//!
//! What is the same for everybody: the load (`drainline load`, the same bytes for the same time; a
//! crowd is a process of this program that only connects), the longest backlog that can be set, a
//! server started anew for each turn, and a warm-up that is not measured. Processor time is the
//! server's alone, ended threads included. A message counts when the consumer has had it or when it
//! is in the file, and the share of those that were sent stands in the table, as does what others
//! took of the machine meanwhile.

mod args;
mod busy;
mod contest;
mod crowd;
mod delay;
mod destination;
mod echo;
mod fifo;
mod figures;
mod load;
mod machine;
mod owned;
mod peer;
mod proc;
mod process;
mod provision;
mod receiver;
mod rounds;
mod scenario;
mod scenarios;
mod servers;
mod table;

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use args::Args;
use scenario::Scenario;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ran = match words[..] {
        [echo::ARGUMENT, address] => echo::serve(address),
        [busy::ARGUMENT] => busy::spin(),
        [receiver::ARGUMENT, address] => receiver::serve(address),
        [crowd::ARGUMENT, address, connections] => crowd::run(address, connections),
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
    owned::end_with_signals()?;
    let (machine, versions) = (machine::describe(), machine::versions());
    print(&format!(
        "{machine}\n{versions}\nmedians of {} rounds{}\n",
        args.rounds(),
        if args.busy { ", processors busy" } else { "" }
    ));
    let mut programs = HashMap::new();
    let mut results: Vec<Value> = Vec::new();
    for scenario in chosen {
        let rows = contest::measure(scenario, args, &mut programs);
        if owned::is_interrupted() {
            return Err("interrupted".into());
        }
        print(&table::text(scenario, &rows, args.busy));
        results.push(table::json(scenario, &rows, args.busy));
        if let Some(path) = &args.json {
            let all = json!({
                "machine": machine,
                "versions": versions,
                "rounds": args.rounds(),
                "busy": args.busy,
                "scenarios": results,
            });
            fs::write(path, format!("{all:#}\n"))?;
        }
    }
    Ok(())
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
