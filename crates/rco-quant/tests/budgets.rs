//! Files of the bundled model at many budgets: never a byte over, and as large as predicted.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_core::knapsack::{Settings, Solver};
use rco_core::rng::{Purpose, stream};
use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::{GgufModel, TensorType};
use rco_quant::QuantError;
use rco_quant::database::{OptionDatabase, Origin};
use rco_quant::groups::Groups;
use rco_quant::menu::{Form, Menu, TypeFilter};
use rco_quant::output::{PlanFile, Provenance, metadata, plan_sha256, tensors};
use rco_quant::verify::check_file;

fn bundled() -> PathBuf {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&root).join("../../assets/tiny-moe/tiny-moe.bf16.gguf")
}

/// Types that are encoded fast.
const TYPES: [TensorType; 4] =
    [TensorType::Q4_0, TensorType::Q5_0, TensorType::Q6_K, TensorType::Q8_0];

fn database(folder: &Path) -> (Arc<GgufModel>, Menu, OptionDatabase) {
    let model = Arc::new(GgufModel::open(bundled()).unwrap());
    let filter = TypeFilter { only: TYPES.to_vec(), ..TypeFilter::default() };
    let menu = Menu::new(&model, &filter, None, &[]).unwrap();
    let origin = Origin { source: "bundled", importance: "" };
    let options = folder.join("options");
    let database =
        OptionDatabase::build(&model, &menu, None, &[], origin, &options, &mut |_, _, _| {})
            .unwrap();
    (model, menu, database)
}

#[test]
fn two_hundred_random_budgets_are_kept_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (model, menu, database) = database(folder.path());
    let provenance = |budget| Provenance { budget, seed: 3 };
    let specs = tensors(&model);
    let groups = Groups::new(menu, &metadata(&model, provenance(0)).unwrap(), &specs, 0).unwrap();
    // The surrogate: weight error, fixed.
    let choices = &groups.menu().choices;
    let errors = choices
        .iter()
        .flat_map(|c| c.forms.iter().map(|&form| -database.distortion(c, form).unwrap().absolute));
    let values: Vec<f64> = errors.chain([0.0]).collect();
    let (smallest, largest) = groups.range();
    let mut random = stream(1, Purpose::Instance, 0);
    let path = folder.path().join("out.gguf");
    let mut hashes = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let budget = smallest + random.below((largest - smallest + 1) as usize) as u64;
        let problem = groups.problem(budget, &[]).unwrap();
        let mut solver =
            Solver::new(problem.decisions(), problem.budgets(), Settings::default()).unwrap();
        let mut plan = vec![0; problem.decisions().len()];
        solver.solve(&values, &mut plan).unwrap();
        let assignment = problem.decisions().expand(&plan);
        let forms = groups.forms(&assignment);
        let predicted = groups.bytes(&assignment);
        let file = PlanFile {
            groups: &groups,
            database: &database,
            forms: &forms,
            provenance: provenance(budget),
            tuned: None,
        };
        let written = file.write(&path, WriteOptions::force()).unwrap();
        let found = std::fs::metadata(&path).unwrap().len();
        assert!(found <= budget, "{found} bytes for a budget of {budget}");
        assert_eq!((written, found), (predicted, predicted));
        check_file(&path, &groups, &forms, predicted).unwrap();
        hashes.insert(plan_sha256(groups.menu(), &forms, None));
    }
    assert!(hashes.len() > 100, "only {} different plans", hashes.len());
}

#[test]
fn a_budget_below_the_smallest_file_names_it_and_who_holds_it_up() {
    let folder = tempfile::tempdir().unwrap();
    let (model, menu, _) = database(folder.path());
    let metadata = metadata(&model, Provenance { budget: 0, seed: 0 }).unwrap();
    let groups = Groups::new(menu, &metadata, &tensors(&model), 0).unwrap();
    let (smallest, _) = groups.range();
    assert!(groups.problem(smallest, &[]).is_ok());
    let error = groups.problem(smallest - 1, &[]).unwrap_err();
    assert!(matches!(error, QuantError::BudgetTooSmall { smallest: s, .. } if s == smallest));
    assert!(error.to_string().contains("_exps.weight ("), "{error}");
}

#[test]
fn a_database_that_was_killed_goes_on_and_a_changed_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, menu, first) = database(folder.path());
    let options = folder.path().join("options");
    // As if it had been killed while the last type was written.
    let bytes = std::fs::read(options.join("Q8_0.gguf")).unwrap();
    let manifest = options.join("manifest.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    json["types"].as_object_mut().unwrap().remove("Q8_0");
    std::fs::write(&manifest, json.to_string()).unwrap();
    std::fs::write(options.join("Q8_0.gguf"), &bytes[..1000]).unwrap();
    let again = |source| {
        let origin = Origin { source, importance: "" };
        OptionDatabase::build(&model, &menu, None, &[], origin, &options, &mut |_, _, _| {})
    };
    let second = again("bundled").unwrap();
    assert_eq!(std::fs::read(options.join("Q8_0.gguf")).unwrap(), bytes);
    let choice = &menu.choices[0];
    assert_eq!(
        first.distortion(choice, Form::own(TensorType::Q8_0)),
        second.distortion(choice, Form::own(TensorType::Q8_0))
    );

    let error = again("another").unwrap_err();
    assert!(matches!(error, QuantError::Changed { .. }), "{error}");
    let mut changed = bytes.clone();
    let last = changed.len() - 40;
    changed[last] ^= 1;
    std::fs::write(options.join("Q8_0.gguf"), changed).unwrap();
    let error = again("bundled").unwrap_err();
    assert!(error.to_string().contains("Q8_0.gguf"), "{error}");
}
