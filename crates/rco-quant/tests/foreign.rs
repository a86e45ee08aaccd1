//! Tensors of somebody else's GGUF file as options.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::{GgufModel, GgufWriter, Metadata, TensorSpec, TensorType};
use rco_ggml::Preset;
use rco_quant::database::{OptionDatabase, Origin};
use rco_quant::foreign::Foreign;
use rco_quant::groups::Groups;
use rco_quant::known;
use rco_quant::menu::{Form, Menu, TypeFilter};
use rco_quant::output::{PlanFile, Provenance, metadata, tensors};
use rco_quant::verify::check_file;

const TENSOR: &str = "blk.1.attn_k.weight";

fn bundled() -> PathBuf {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&root).join("../../assets/tiny-moe/tiny-moe.bf16.gguf")
}

fn only(types: &[TensorType]) -> TypeFilter {
    TypeFilter { only: types.to_vec(), ..TypeFilter::default() }
}

fn build(
    model: &Arc<GgufModel>,
    menu: &Menu,
    foreign: &[Foreign],
    folder: &Path,
) -> OptionDatabase {
    let foreign: Vec<_> = foreign.iter().map(|f| (f.clone(), f.sha256().unwrap())).collect();
    let origin = Origin { source: "bundled", importance: "" };
    OptionDatabase::build(model, menu, None, &foreign, origin, folder, &mut |_, _, _| {}).unwrap()
}

#[test]
fn a_foreign_file_can_be_chosen_as_it_is_and_its_bytes_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("theirs.gguf");
    rco_ggml::quantise_file(&bundled(), &theirs, Preset::Q4_K_M, None, 2).unwrap();
    let model = Arc::new(GgufModel::open(bundled()).unwrap());
    let foreign = Foreign::open_all(&[&theirs, &theirs], &model).unwrap();
    let names: Vec<&str> = foreign.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["theirs.gguf", "theirs.gguf#2"]);
    let foreign = &foreign[..1];
    let filter = only(&[TensorType::Q4_0, TensorType::Q8_0]);
    let menu = Menu::new(&model, &filter, None, foreign).unwrap();
    // What they have is on the menu though the types are not among those encoded here.
    assert_eq!(menu.encoded_types(), [TensorType::Q4_0, TensorType::Q8_0]);
    let theirs_of = |menu: &Menu, g: usize| {
        menu.choices[g].forms.iter().copied().find(|form| form.file == Some(0))
    };
    assert!((0..menu.choices.len()).all(|g| theirs_of(&menu, g).is_some()));
    let named = menu.named(Form { ty: TensorType::Q4_K, file: Some(0) });
    assert_eq!(named.to_string(), "Q4_K@theirs.gguf");

    let options = folder.path().join("options");
    let first = build(&model, &menu, foreign, &options);
    for (g, choice) in menu.choices.iter().enumerate() {
        let relative = |form| first.distortion(choice, form).unwrap().relative;
        let found = relative(theirs_of(&menu, g).unwrap());
        assert!(found > 0.0 && found < 0.02, "{}: {found}", choice.tensor.name);
    }
    // Q4_0 without importance has the bytes of Q4_K, and twice its error.
    let left = first.without_dominated(&menu, &[]);
    let four = [Form::own(TensorType::Q4_0), Form { ty: TensorType::Q4_K, file: Some(0) }];
    let count = |menu: &Menu, form| menu.choices.iter().filter(|c| c.forms.contains(form)).count();
    assert!(count(&left, &four[0]) < count(&menu, &four[0]));
    assert!(count(&left, &four[1]) > 0);
    // The second time the distortions come from the manifest.
    let second = build(&model, &menu, foreign, &options);
    for (g, choice) in menu.choices.iter().enumerate() {
        let form = theirs_of(&menu, g).unwrap();
        assert_eq!(first.distortion(choice, form), second.distortion(choice, form));
    }

    let provenance = Provenance { budget: 6_000_000, seed: 1 };
    let header = metadata(&model, provenance).unwrap();
    let groups = Groups::new(menu, &header, &tensors(&model), 0).unwrap();
    let budget = provenance.budget;
    let known = known::plans(&groups, &bundled(), None, second.foreign(), budget).unwrap();
    let (_, plan) = known.iter().find(|(name, _)| name == "theirs.gguf as it is").unwrap();
    let forms = groups.forms(plan);
    assert!(forms.iter().all(|form| form.file == Some(0)));
    let out = folder.path().join("out.gguf");
    let (groups, database, tuned) = (&groups, &second, None);
    PlanFile { groups, database, forms: &forms, provenance, tuned }
        .write(&out, WriteOptions::default())
        .unwrap();
    check_file(&out, groups, &forms, groups.bytes(plan)).unwrap();
    let (out, theirs) = (GgufModel::open(&out).unwrap(), GgufModel::open(&theirs).unwrap());
    for choice in &groups.menu().choices {
        let name = &choice.tensor.name;
        assert_eq!(out.read(name).unwrap(), theirs.read(name).unwrap(), "{name}");
    }
    // Plans are told by the names of forms.
    let name = |g: usize| groups.menu().named(forms[g]).to_string();
    let choices = &groups.menu().choices;
    let of = |tensor: &str| choices.iter().position(|c| c.tensor.name == tensor).map(name);
    assert_eq!(groups.assignment(of).unwrap(), *plan);
    let error = groups.assignment(|_| Some("Q5_1".to_owned())).unwrap_err();
    assert!(error.contains("Q5_1") && error.contains("Q8_0"), "{error}");
}

/// A file with one tensor.
fn single(path: &Path, architecture: &str, spec: TensorSpec, bytes: Vec<u8>) {
    let mut metadata = Metadata::new();
    let text = rco_formats::gguf::Text(architecture.as_bytes().to_vec());
    metadata.set("general.architecture", rco_formats::gguf::Value::String(text)).unwrap();
    let mut writer = GgufWriter::new(metadata);
    writer.add(spec, Arc::new(bytes)).unwrap();
    writer.write(path, WriteOptions::force()).unwrap();
}

#[test]
fn files_that_do_not_fit_are_refused_by_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("theirs.gguf");
    let model = Arc::new(GgufModel::open(bundled()).unwrap());
    let spec = model.tensor(TENSOR).unwrap().1.spec.clone();
    let bytes = model.read(TENSOR).unwrap();
    let arch = "qwen3moe";

    let refused = |filter: &TypeFilter| {
        let foreign = match Foreign::open_all(&[&path], &model) {
            Ok(foreign) => foreign,
            Err(error) => return error.to_string(),
        };
        let menu = match Menu::new(&model, filter, None, &foreign) {
            Ok(menu) => menu,
            Err(error) => return error.to_string(),
        };
        let origin = Origin { source: "bundled", importance: "" };
        let options = folder.path().join("options");
        let foreign: Vec<_> = foreign.iter().map(|f| (f.clone(), "hash".to_owned())).collect();
        OptionDatabase::build(&model, &menu, None, &foreign, origin, &options, &mut |_, _, _| {})
            .unwrap_err()
            .to_string()
    };
    let small = only(&[TensorType::Q4_0]);
    let expect = |what: &str, words: &[&str]| {
        let error = refused(&small);
        for word in ["theirs.gguf", "cannot serve as options"].iter().chain(words) {
            assert!(error.contains(word), "{what}: `{word}` is missing in {error}");
        }
    };

    single(&path, "llama", spec.clone(), bytes.clone());
    expect("another family", &["llama", arch]);
    let other = TensorSpec { name: "blk.99.attn_k.weight".to_owned(), ..spec.clone() };
    single(&path, arch, other, bytes.clone());
    expect("another name", &["blk.99.attn_k.weight"]);
    let shape: Vec<u64> = spec.shape.iter().rev().copied().collect();
    if shape != spec.shape {
        single(&path, arch, TensorSpec { shape, ..spec.clone() }, bytes.clone());
        expect("another shape", &[TENSOR, "shape"]);
    }
    single(&path, arch, spec.clone(), bytes.clone());
    expect("nothing smaller", &["smaller"]);

    // The negative of the source, and a value that is none.
    let row = spec.row_length() as usize;
    let values = rco_ggml::decode_to(spec.ty, &bytes, row).unwrap();
    let q8 = TensorSpec { ty: TensorType::Q8_0, ..spec.clone() };
    let negative: Vec<f32> = values.iter().map(|v| -v).collect();
    let encoded = rco_ggml::encode(TensorType::Q8_0, &negative, row, None).unwrap();
    single(&path, arch, q8.clone(), encoded);
    expect("another model", &["another model"]);
    let mut encoded = rco_ggml::encode(TensorType::Q8_0, &values, row, None).unwrap();
    // The scale of the first block of row 1.
    let at = row / 32 * 34;
    encoded[at..at + 2].copy_from_slice(&0x7c00_u16.to_le_bytes());
    single(&path, arch, q8, encoded);
    expect("infinite values", &[TENSOR, "row 1"]);
}
