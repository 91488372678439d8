//! Any settings, any load: every message is accounted for, and the bounds hold.

use std::time::Duration;

use drainline::{Config, OnOverload, WhenFull};
use proptest::prelude::*;

use super::super::super::metrics::Ledger;
use super::super::super::workload::{ClientPace, Crowd, SinkPace, Stall, Workload};
use super::super::simulator::Simulator;
use super::super::{MAX_STEPS, Scenario, heaviest, run};
use super::is_long;

const MAX_MESSAGE: usize = 1024;
/// Greedy crowds send messages of no fewer bytes, for no longer.
const GREEDY_SIZE: usize = 512;
const GREEDY_LASTS: Duration = Duration::from_millis(100);
/// Long enough for the slowest sink, and for a message a second of all that sockets hold.
const SETTLE: Duration = Duration::from_secs(7 * 24 * 3600);

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

prop_compose! {
    fn configs()(
        when_full in prop_oneof![Just(WhenFull::Abort), Just(WhenFull::Drop), Just(WhenFull::Block)],
        on_overload in prop_oneof![Just(OnOverload::Backlog), Just(OnOverload::Close), Just(OnOverload::Refuse)],
        buffer_messages in 1usize..3_000,
        buffer_bytes in (4usize << 10)..(1 << 20),
        send_timeout in millis(100..3_000),
        max_connections in 1usize..30,
        backlog in 1u32..40,
        rate_limit in proptest::option::weighted(0.3, 1u64..500),
        accept_rate in proptest::option::weighted(0.3, 1u64..100),
        frame_timeout in millis(100..3_000),
    ) -> Config {
        let mut config = Config::default();
        config.when_full = when_full;
        config.on_overload = on_overload;
        config.buffer_messages = buffer_messages;
        config.buffer_bytes = buffer_bytes;
        config.send_timeout = send_timeout;
        config.max_connections = Some(max_connections);
        config.backlog = Some(backlog);
        config.rate_limit = rate_limit;
        config.accept_rate = accept_rate;
        config.frame_timeout = Some(frame_timeout);
        config
    }
}

prop_compose! {
    fn crowds()(
        connections in 1usize..20,
        size in 1usize..2_000,
        pace in prop_oneof![
            4 => (0u64..300).prop_map(ClientPace::Rate),
            1 => Just(ClientPace::Greedy),
            1 => Just(ClientPace::Drip),
        ],
        from in millis(0..2_000),
        lasts in millis(1..4_000),
        reconnect in proptest::option::weighted(0.5, millis(20..2_000)),
    ) -> Crowd {
        // Messages of a byte each would be a million in a socket, weeks at a limit of one a second,
        // and in a second more than a simulation has steps for.
        let (size, lasts) = match pace {
            ClientPace::Greedy => (size.max(GREEDY_SIZE), lasts.min(GREEDY_LASTS)),
            _ => (size, lasts),
        };
        Crowd { connections, size, pace, from, until: from + lasts, reconnect }
    }
}

prop_compose! {
    fn workloads(dead: bool)(
        crowds in proptest::collection::vec(crowds(), 1..4),
        rate in proptest::option::weighted(0.8, 1_000u64..20_000),
        at in millis(0..2_000),
        lasts in millis(100..3_000),
        stalls in 0usize..2,
        catches_up in any::<bool>(),
        seed in 0u64..9,
    ) -> Workload {
        let duration = crowds.iter().map(|crowd| crowd.until).max().unwrap_or_default();
        let stall = Stall { at, lasts };
        let ends = at + lasts < duration;
        let stalls = if stalls == 1 && (dead || ends) { vec![stall] } else { Vec::new() };
        Workload { crowds, sink: SinkPace { rate, stalls, catches_up }, duration, seed }
    }
}

fn scenario<'a>(config: &'a Config, workload: &'a Workload, settle: Duration) -> Scenario<'a> {
    Scenario {
        config,
        max_message: MAX_MESSAGE,
        workload,
        settle,
        max_steps: MAX_STEPS,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if is_long() { 256 } else { 64 }))]

    #[test]
    fn every_message_is_accounted_for(
        config in configs(),
        workload in workloads(true),
        settle in millis(0..5_000),
    ) {
        let simulated = run(&scenario(&config, &workload, settle));
        let metrics = &simulated.metrics;
        prop_assert_eq!(metrics.ledger, Ledger::Closes);
        prop_assert_eq!(metrics.sent, metrics.delivered + metrics.lost() + simulated.unseen);
        prop_assert!(simulated.watched.at_end.closes(), "{:?}", simulated.watched.at_end);
        prop_assert_eq!(metrics.stopped_at.as_ref(), None);
        let most = metrics.threads_before + config.max_connections.unwrap_or_default() as u64;
        prop_assert!(metrics.peak_threads <= most);
        for pair in simulated.timeline.windows(2) {
            prop_assert!(pair[0].at < pair[1].at);
            prop_assert!(pair[0].delivered <= pair[1].delivered && pair[0].lost <= pair[1].lost);
        }
    }

    #[test]
    fn nothing_is_lost_where_senders_wait(config in configs(), workload in workloads(false)) {
        let mut config = config;
        config.when_full = WhenFull::Block;
        config.on_overload = OnOverload::Backlog;
        let simulated = run(&scenario(&config, &workload, SETTLE));
        prop_assert_eq!(simulated.metrics.stopped_at.as_ref(), None);
        prop_assert_eq!(simulated.metrics.lost(), 0);
        prop_assert_eq!(simulated.unseen, 0);
        prop_assert_eq!(simulated.metrics.threads_left(), 0);
    }

    #[test]
    fn adding_up_changes_nothing_that_counts(config in configs(), workload in workloads(false)) {
        let mut config = config;
        config.rate_limit = None;
        config.accept_rate = None;
        config.max_connections = None;
        config.backlog = None;
        config.on_overload = OnOverload::Backlog;
        config.when_full = WhenFull::Block;
        // Who sends byte by byte, and is disconnected for that, sends as much as it has
        // connections, and is let in by the tick.
        config.frame_timeout = None;
        let mut workload = workload;
        for crowd in &mut workload.crowds {
            if crowd.pace == ClientPace::Greedy {
                // What these send depends on when there was room for it. All others have room in
                // their sockets.
                crowd.pace = ClientPace::Rate(300);
            }
        }
        let scenario = scenario(&config, &workload, SETTLE);
        let at_once = run(&scenario);
        let mut simulator = Simulator::new(&scenario);
        simulator.flows_at_once = false;
        let one_by_one = simulator.run(&mut |_| {});
        prop_assert_eq!(at_once.metrics.sent, one_by_one.metrics.sent);
        prop_assert_eq!(at_once.metrics.delivered, one_by_one.metrics.delivered);
    }
}

/// Else all messages of a tick would keep their bytes until the last of them is taken, and senders
/// would wait for room that there is.
#[test]
fn what_was_added_up_makes_room_as_it_is_taken() {
    let second = Duration::from_secs(1);
    let until = Duration::from_millis(2_300);
    let crowd = Crowd::new(10, 127, ClientPace::Rate(1_000), until);
    let sink = SinkPace::new(Some(1_000), &[Stall::new(second, second)]);
    let workload = Workload::new(vec![crowd], sink);
    let mut config = Config::default();
    config.max_read_delay = None;
    // All of the second of a stall and of the 300 ms after it, less 300 that the sink takes
    // meanwhile; 9,000 before it.
    config.buffer_bytes = 21_800 * heaviest(127) as usize;
    for at_once in [true, false] {
        let scenario = scenario(&config, &workload, SETTLE);
        let mut simulator = Simulator::new(&scenario);
        simulator.flows_at_once = at_once;
        let simulated = simulator.run(&mut |_| {});
        let most = simulated.metrics.peak_buffered;
        assert!((21_600..21_750).contains(&most), "{most}");
        assert_eq!(
            simulated.longest_wait(),
            Duration::ZERO,
            "at once: {at_once}"
        );
    }
}
