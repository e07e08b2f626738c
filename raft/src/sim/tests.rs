//! A few seeds of the simulation in every test run, all saved failures, and all link graphs; thousands of seeds are run by
//! the example `sim`.

use super::plan::Plan;
use super::{campaign, graphs, run};

#[test]
fn every_property_holds_and_runs_repeat_themselves() {
    let report = campaign::run_seeds(0, 40, None, true, 2);
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(report.total.commits > 40 * 100, "the runs did something: {:?}", report.total);
}

/// Every plan in `tests/seeds` once ended in a violation.
#[test]
fn what_once_failed_does_not_fail_again() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seeds");
    let mut plans = 0;
    for file in std::fs::read_dir(folder).expect("the folder of saved plans") {
        let path = file.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("a text");
        let plan = Plan::from_text(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let outcome = run(&plan, false);
        assert_eq!(outcome.violation, None, "{}", path.display());
        plans += 1;
    }
    assert!(plans > 0, "there are saved plans");
}

#[test]
fn plans_survive_their_text() {
    for seed in 0..200 {
        let plan = Plan::of(seed);
        assert_eq!(Plan::from_text(&plan.to_text("why\nit failed")), Ok(plan));
    }
    assert!(Plan::from_text("at 5 no_such_thing who=n1").is_err());
    assert!(Plan::from_text("at 5 power who=n1").is_err());
}

#[test]
fn every_link_graph_on_three_nodes_has_its_verdict() {
    for verdict in graphs::run_all() {
        assert_eq!(verdict.violation, None, "{}", verdict.graph());
    }
}
