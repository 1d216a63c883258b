//! State of other versions: taken over before the configuration, or refused and left as it was.

use runtime::{CallContext, ConfigureFault, FaultKind, Limits, Step, StepConfig};

use crate::guests::{Kept, Site, frame};

type State = Vec<(String, Vec<u8>)>;

fn make(guest: &str, from: Option<&str>, config: &str, state: State) -> Result<Step, ConfigureFault> {
    let config = StepConfig {
        name: "count".into(),
        config_json: config.into(),
        state_version: from.map(str::to_owned),
        ..StepConfig::default()
    };
    Site::shared().configured(guest, config, state)
}

fn old_state() -> State {
    vec![("rows".to_owned(), vec![41])]
}

#[test]
fn state_of_another_version_is_taken_over_and_the_changes_are_handed_out() {
    let mut step = make("fixtures/migrate", Some("0.0.9"), "{}", old_state()).unwrap();
    let mut kept = Kept::default();
    let changes = step.take_migration();
    assert_eq!(changes.len(), 2, "one key became another: {changes:?}");
    assert!(step.take_migration().is_empty(), "once");
    assert_eq!(step.state(), [("rows/all".to_owned(), vec![41])]);

    // A fault does not bring the old form back.
    let broken = [frame(&[("a", 1, 1.0)])];
    let processed = step.process(&broken, &CallContext::default()).unwrap();
    assert!(processed.logs.iter().any(|line| line.message == "migrating from \"0.0.9\""));
    kept.commit(&processed);
    assert_eq!(kept.entries(), [("rows/a".to_owned(), vec![1])], "the migration was handed out before");
}

#[test]
fn state_of_the_same_version_or_of_an_unknown_one_stays_as_it_is() {
    for from in [Some("0.1.0"), None] {
        let mut step = make("fixtures/migrate", from, "{}", old_state()).unwrap();
        assert_eq!((step.state(), step.take_migration()), (old_state(), Vec::new()));
    }
    // A plugin without migration takes any state.
    let step = make("fixtures/trap", Some("0.0.1"), "{}", old_state()).unwrap();
    assert_eq!(step.state(), old_state());
}

#[test]
fn a_plugin_may_refuse_the_state_of_a_version_in_its_own_words() {
    let mut state = old_state();
    // As postcard writes a text: its length, then its bytes.
    state.push(("refuse".to_owned(), b"\x050.0.2".to_vec()));
    let refused = make("fixtures/migrate", Some("0.0.2"), "{}", state).err().unwrap();
    assert!(matches!(&refused, ConfigureFault::Migration { from, .. } if from == "0.0.2"), "{refused}");
    assert!(refused.to_string().contains("the state of 0.0.2 cannot be read"), "{refused}");
}

#[test]
fn a_crash_in_mid_migration_and_a_refused_configuration_after_it_leave_no_step() {
    match make("fixtures/migrate", Some("trap"), "{}", old_state()) {
        Err(ConfigureFault::Fault(fault)) => {
            assert_eq!(fault.kind, FaultKind::Trap, "{fault}");
            assert!(fault.message.contains("in mid migration"), "{fault}");
        }
        other => panic!("{:?}", other.err()),
    }
    let refused = make("fixtures/migrate", Some("0.0.9"), r#"{"refuse": true}"#, old_state()).err();
    assert!(matches!(refused, Some(ConfigureFault::Refused { .. })), "{refused:?}");
}

#[test]
fn a_migration_is_held_to_the_limits_of_a_call() {
    let config = StepConfig {
        name: "count".into(),
        config_json: "{}".into(),
        state_version: Some("0.0.9".into()),
        limits: Limits { state_bytes: 7, ..Limits::default() },
        ..StepConfig::default()
    };
    // The old key fits, the new one does not fit beside it.
    let refused = Site::shared().configured("fixtures/migrate", config, old_state()).err().unwrap();
    assert!(matches!(refused, ConfigureFault::Migration { .. }), "{refused}");
    assert!(refused.to_string().contains("limits.state"), "{refused}");
}
