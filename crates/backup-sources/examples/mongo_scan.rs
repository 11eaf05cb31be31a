//! Reads a MongoDB server as a backup does, and throws it away: `mongo_scan mongodb://… [streams]`.
//! Prints bytes, seconds and CPU seconds.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for measuring")]

use std::time::Instant;

use backup_core::context::Context;
use backup_core::source::{BackupRequest, Content, Item, Selection, Source as _};
use backup_sources::mongodb::{MongoOptions, MongoSource};
use futures::StreamExt as _;

fn cpu() -> f64 {
    let usage = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = usage.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

async fn read(content: Content) -> u64 {
    let Content::Stream(mut content) = content else { return 0 };
    let mut bytes = 0;
    while let Some(piece) = content.next().await {
        bytes += piece.unwrap().len() as u64;
    }
    bytes
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let source = MongoSource::connect(MongoOptions::new(arguments.next().unwrap())).await.unwrap();
    let streams = arguments.next().map_or(2, |streams| streams.parse().unwrap());
    let (started, before) = (Instant::now(), cpu());
    let request = BackupRequest::full(Selection::all());
    let mut reader = source.open_backup(&Context::silent(), &request).await.unwrap();
    let mut contents = Vec::new();
    while let Some(item) = reader.next().await.unwrap() {
        if let Item::Entry(entry) = item {
            contents.push(entry.content);
        }
    }
    let bytes: u64 = futures::stream::iter(contents)
        .map(read)
        .buffered(streams)
        .fold(0, |sum, bytes| async move { sum + bytes })
        .await;
    let checkpoint = reader.finish().await.unwrap();
    let (gb, seconds, cpu) = (bytes as f64 / 1e9, started.elapsed().as_secs_f64(), cpu() - before);
    println!("{gb:.3} GB, {seconds:.2} s, {:.2} CPU s/GB, to {:?}", cpu / gb, checkpoint.position);
}
