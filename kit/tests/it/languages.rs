//! The same job in four languages: the same input, the same output to the last bit, also over a restart.

use runtime::{CallContext, Engine, EngineConfig, Plugin, Step, StepConfig};
use serde_json::Value as Json;
use wire::frame::{Column, Frame, Texts, Values};
use wire::frame_json;

use crate::projects::{LANGUAGES, built, compiled};

const CONFIG: &str = r#"{"column": "temperature_c", "into": "temperature_f", "deadband": 0.7}"#;

/// Numbers that only look random, so that a failure can be repeated (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Rows of a few devices, times to the nanosecond, integers beyond 2^53, names and texts beyond ASCII, values that no
/// comparison likes.
fn frame(numbers: &mut Numbers) -> Frame {
    let rows = 1 + numbers.next(40) as usize;
    let devices: Vec<String> = ["press-1", "Öfen/2", "温度-3", "d🙂4"].map(str::to_owned).into();
    let mut list = |of: &dyn Fn(&mut Numbers) -> u64| (0..rows).map(|_| of(numbers)).collect::<Vec<u64>>();
    let celsius = list(&|numbers| numbers.next(60))
        .into_iter()
        .map(|tenths| match tenths {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => -0.0,
            _ => tenths as f64 * 0.1 + 20.0,
        })
        .collect();
    let device = list(&|numbers| numbers.next(4)).into_iter().map(|device| device as u32).collect();
    let index = list(&|numbers| numbers.next(2)).into_iter().map(|entry| entry as u32).collect();
    let serial =
        list(&|numbers| numbers.next(1 << 30)).into_iter().map(|low| i64::MAX - low as i64).collect();
    let time =
        list(&|numbers| numbers.next(1 << 30)).into_iter().map(|low| 1_760_000_000_000_000_001 + low as i64);
    let column =
        |name: &str, values, status| Column { name: name.into(), unit: "Cel".into(), values, status };
    Frame {
        profile: "machine".into(),
        devices,
        device,
        time: time.collect(),
        columns: vec![
            column("temperature_c", Values::F64(celsius), (0..rows as u32).collect()),
            column("serial", Values::I64(serial), vec![]),
            column(
                "state",
                Values::Text(Texts { dictionary: vec!["läuft".into(), "🙃".into()], index }),
                vec![1 << 31; rows],
            ),
        ],
    }
}

/// What comes out by rows, and what is kept, for a plugin that is made anew in the middle.
fn life(engine: &Engine, plugin: &Plugin, batches: &[Vec<Frame>]) -> (Vec<Json>, Vec<(String, Vec<u8>)>) {
    let context = CallContext::default();
    let config = || StepConfig { name: "step".into(), config_json: CONFIG.into(), ..StepConfig::default() };
    let mut step = Step::new(engine, plugin, config(), vec![], &context).unwrap();
    let mut rows = vec![];
    for (at, batch) in batches.iter().enumerate() {
        if at == batches.len() / 2 {
            step = Step::new(engine, plugin, config(), step.state(), &context).unwrap();
        }
        let processed = step.process(batch, &context).unwrap();
        rows.extend(processed.frames.iter().map(|routed| frame_json::to_json(&routed.frame)));
    }
    let mut state = step.state();
    state.sort();
    (rows, state)
}

#[test]
fn the_same_input_gives_the_same_output_in_every_language() {
    let seed = 20_261_124;
    println!("seed {seed}");
    let mut numbers = Numbers(seed);
    let batches: Vec<Vec<Frame>> = (0..12).map(|_| (0..3).map(|_| frame(&mut numbers)).collect()).collect();
    let engine = Engine::new(EngineConfig::new(compiled())).unwrap();
    let lives = LANGUAGES.map(|lang| life(&engine, &engine.load(built(lang)).unwrap(), &batches));
    assert!(lives[0].0.len() > 12 && !lives[0].1.is_empty(), "something was kept and something dropped");
    for (lang, life) in LANGUAGES.iter().zip(&lives) {
        for (row, (theirs, rusts)) in life.0.iter().zip(&lives[0].0).enumerate() {
            assert_eq!(theirs, rusts, "{lang}, frame {row}");
        }
        assert_eq!(life, &lives[0], "{lang}");
    }
}
