//! A few seeds of the simulation in every test run; thousands are run by the example `sim`.

use super::campaign;

#[test]
fn every_property_holds_and_runs_repeat_themselves() {
    let report = campaign::run_seeds(0, 24, None, true, 2);
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(report.total.commits > 24 * 100, "the runs did something: {:?}", report.total);
}
