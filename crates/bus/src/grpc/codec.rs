//! JSON and plain bytes as gRPC messages.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Sends what `E` writes, receives what `D` reads.
pub(super) struct Pair<E, D>(PhantomData<fn() -> (E, D)>);

/// A document.
pub(super) struct Json<T>(PhantomData<fn() -> T>);

/// A piece of an image.
#[derive(Default)]
pub(super) struct Raw;

impl<E, D> Default for Pair<E, D> {
    fn default() -> Self {
        Pair(PhantomData)
    }
}

impl<T> Default for Json<T> {
    fn default() -> Self {
        Json(PhantomData)
    }
}

impl<E, D> Codec for Pair<E, D>
where
    E: Encoder<Error = Status, Item: Send + 'static> + Default + Send + 'static,
    D: Decoder<Error = Status, Item: Send + 'static> + Default + Send + 'static,
{
    type Encode = E::Item;
    type Decode = D::Item;
    type Encoder = E;
    type Decoder = D;

    fn encoder(&mut self) -> E {
        E::default()
    }

    fn decoder(&mut self) -> D {
        D::default()
    }
}

impl<T: Serialize> Encoder for Json<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        serde_json::to_writer(into.writer(), &item).map_err(|error| Status::internal(error.to_string()))
    }
}

impl<T: DeserializeOwned> Decoder for Json<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        let text = from.copy_to_bytes(from.remaining());
        serde_json::from_slice(&text).map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
