//! Activation checkpointing: only each layer's input is kept, and the layer is run again in the backward pass.

use crate::model::{Hidden, Inputs, Model};
use mixers::Context;
use tch::{Tensor, no_grad};

impl Model {
    /// The loss that `read` makes of what the last layer gives, and the gradients of all it depends on, as `backward` adds
    /// them. Of each layer only its input is kept, and the layer is run again in the backward. `reseed` is called with 0
    /// before the embedding and with `layer + 1` before a layer, each time it is run: both times it draws the same dropout.
    pub fn backward_by_layers(
        &self,
        inputs: &Inputs,
        hidden: Option<Hidden>,
        reseed: impl Fn(usize),
        read: impl Fn(&Tensor, &Context) -> Tensor,
    ) -> Tensor {
        let leaf = |x: &Tensor| x.detach().set_requires_grad(true);
        let send = |y: &Tensor, grad: &Tensor| (y * grad).sum(y.kind()).backward();
        reseed(0);
        let (embedded, mut ctx) = self.embed(inputs, hidden, true);
        let mut kept = vec![embedded.detach()];
        no_grad(|| {
            for layer in 0..self.layers() {
                reseed(layer + 1);
                kept.push(self.layer(layer, &kept[layer], &mut ctx));
            }
        });
        let last = leaf(&kept.pop().expect("what the last layer gives"));
        let loss = read(&last, &ctx);
        loss.backward();
        let mut grad = last.grad();
        for layer in (0..self.layers()).rev() {
            reseed(layer + 1);
            let x = leaf(&kept.pop().expect("an input a layer"));
            // The first run has moved the running statistics of batch norms; the second must not.
            let running = self.block(layer).running();
            let before: Vec<Tensor> = running.iter().map(Tensor::copy).collect();
            send(&self.layer(layer, &x, &mut ctx), &grad);
            no_grad(|| running.into_iter().zip(&before).for_each(|(mut now, before)| now.copy_(before)));
            grad = x.grad();
        }
        if embedded.requires_grad() {
            send(&embedded, &grad);
        }
        loss.detach()
    }
}
