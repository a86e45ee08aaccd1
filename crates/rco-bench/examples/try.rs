#![allow(clippy::print_stdout, missing_docs)]
use rco_bench::synthetic::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let list = |s: &str| -> Vec<usize> { s.split(',').map(|x| x.parse().unwrap()).collect() };
    let settings = SyntheticSettings {
        groups: list(&a[1]), options: list(&a[2]), seeds: a[3].parse().unwrap(), tightness: vec![0.25,0.5,0.75],
        limits: list(&a[4]).iter().map(|&x| x as u64).collect(),
        methods: if a.len() > 5 { a[5].split(';').map(String::from).collect() } else { vec![] },
        families: if a.len() > 6 { Family::all().into_iter().filter(|f| a[6].split(';').any(|x| f.name() == x)).collect() } else { Family::all() },
 ..Default::default() };
    let rows = run(&settings, &|_, _| {}).unwrap();
    for s in summarise(&rows) {
        println!("{:22} {:18} n={:3} score {:8.3} ± {:6.3} worst {:8.3} ratio {:?} solved {:3} raw over {} raw cost {:?} OVER {} evals {:.0} {:.3}s",
          s.family, s.method, s.instances, s.score, s.standard_error, s.worst, s.value_ratio.map(|v| (v*1000.0).round()/1000.0), s.solved, s.raw_over_budget, s.raw_cost.map(|v| (v*10.0).round()/10.0), s.over_budget, s.evaluations, s.seconds);
    }
}
