#![allow(clippy::print_stdout, missing_docs)]
use rco_bench::synthetic::*;
use rco_core::search::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let mut cs = vec![];
    for lr in [0.1, 0.2, 0.4] { for te in [0.3, 0.1, 0.03] { for spp in [4usize] {
        let mut s = SearchSettings { threads: 1, ..SearchSettings::for_method(MethodName::Rco) };
        s.rco.learning_rate = lr; s.rco.tau_end = te; s.rco.samples_per_step = spp;
        if a[2] == "cold" { s.warm_start.enabled = false; }
        cs.push(Contender { name: Box::leak(format!("lr {lr} tau_end {te} spp {spp}").into_boxed_str()), settings: vec![s] });
    }}}
    let settings = SyntheticSettings { groups: vec![32], options: vec![7], seeds: 2, tightness: vec![0.25, 0.5, 0.75], limits: vec![a[1].parse().unwrap()],
        families: Family::all().into_iter().filter(|f| f.name().starts_with("comp") || f.name() == "pairwise").collect(), ..Default::default() };
    let rows = run_with(&settings, &cs, &|_, _| {}).unwrap();
    for s in summarise(&rows) { println!("{:22} {:32} {:8.3} ± {:6.3} worst {:8.3}", s.family, s.method, s.score, s.standard_error, s.worst); }
}
