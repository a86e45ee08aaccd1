//! Writes small valid files for the fuzz targets: `fuzz_seeds FOLDER`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_formats::compressed_tensors::quantization_config;
use rco_formats::gguf::{Array, GgufWriter, Metadata, TensorSpec, TensorType, Text, Value};
use rco_formats::imatrix::{Imatrix, ImatrixEntry};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: fuzz_seeds FOLDER")?);
    put(&folder, "gguf", &gguf()?)?;
    put(&folder, "safetensors", &safetensors("t"))?;
    put(&folder, "folder", &hf_folder())?;
    put(&folder, "imatrix", &imatrix()?)?;
    put(&folder, "quantization_config", &packed_modules()?)?;
    Ok(())
}

fn put(folder: &Path, target: &str, bytes: &[u8]) -> Outcome<()> {
    let folder = folder.join(target);
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::write(folder.join("valid"), bytes)?)
}

/// Two groups of modules and one that is left alone.
fn packed_modules() -> Outcome<Vec<u8>> {
    let module = |n: u8| format!("model.layers.{n}.mlp.down_proj");
    let packed = [(module(0), "4g64".parse()?), (module(1), "8g128z".parse()?)];
    let config = quantization_config(&packed, &["lm_head".to_owned()], true);
    Ok(serde_json::to_vec(&config)?)
}

/// Every value type, nested arrays, known and unknown tensor types.
fn gguf() -> Outcome<Vec<u8>> {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "llama")?;
    metadata.set("general.alignment", 32_u32)?;
    let values: [Value; 12] = [
        1_u8.into(),
        (-1_i8).into(),
        2_u16.into(),
        (-2_i16).into(),
        (-3_i32).into(),
        0.5_f32.into(),
        true.into(),
        4_u64.into(),
        (-4_i64).into(),
        0.25_f64.into(),
        Array::Array(vec![Array::U16(vec![1, 2]), Array::String(vec![Text::from("x")])]).into(),
        Array::Bool(vec![true, false]).into(),
    ];
    for (i, value) in values.into_iter().enumerate() {
        metadata.set(&format!("k{i}"), value)?;
    }
    let mut writer = GgufWriter::new(metadata);
    for (name, shape, ty) in [
        ("token_embd.weight", &[32, 2][..], TensorType::Q4_0),
        ("blk.0.attn_norm.weight", &[4], TensorType::F32),
        ("blk.0.ffn_down.weight", &[64, 1, 1], TensorType::NVFP4),
    ] {
        let spec = TensorSpec::new(name, shape, ty);
        let bytes = spec.byte_length()?.unwrap_or(0);
        writer.add(spec, Arc::new(vec![1_u8; bytes as usize]))?;
    }
    let mut out = Vec::new();
    writer.write_to(&mut out)?;
    Ok(out)
}

fn safetensors(name: &str) -> Vec<u8> {
    let header = format!(
        "{{\"__metadata__\":{{\"format\":\"pt\"}},\"{name}\":{{\"dtype\":\"F32\",\"shape\":[2,1],\
         \"data_offsets\":[0,8]}},\"{name}.n\":{{\"dtype\":\"F4\",\"shape\":[2],\
         \"data_offsets\":[8,9]}}}}"
    );
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend([0; 9]);
    out
}

fn hf_folder() -> Vec<u8> {
    let index = "{\"metadata\":{\"total_size\":18},\"weight_map\":{\"x\":\"a.safetensors\",\
                 \"x.n\":\"a.safetensors\",\"y\":\"b.safetensors\",\"y.n\":\"b.safetensors\"}}";
    let config = "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\"}";
    [config.as_bytes(), index.as_bytes(), &safetensors("x"), &safetensors("y")].join(&b"@@@\n"[..])
}

fn imatrix() -> Outcome<Vec<u8>> {
    let mut imatrix = Imatrix::new(vec![
        ImatrixEntry::new("blk.0.ffn_down_exps.weight", vec![1.0; 6], vec![2.0, 0.0])?,
        ImatrixEntry::new("a", vec![3.0], vec![1.0])?,
    ])?;
    imatrix.datasets = vec!["text".into()];
    imatrix.chunk_count = Some(3);
    imatrix.chunk_size = Some(512);
    let mut out = Vec::new();
    imatrix.to_gguf()?.write_to(&mut out)?;
    Ok(out)
}
