// Ref: what an operation produces, as the solver's opaque Outcome: a chain of layers, or a live
// directory of the user (a local build context that was not copied). Immutable; any thread.
#pragma once

#include "base/stop.hpp"
#include "layer/tree_digest.hpp"
#include "snapshot/tree.hpp"
#include "solver/vertex.hpp"
#include "source/local.hpp"
#include "store/chain.hpp"
#include "store/store.hpp"

#include <memory>

namespace cooper::ops {

class Ref final : public solver::Outcome {
public:
    Ref(store::Chain chain, std::shared_ptr<const void> held) : chain_(std::move(chain)), held_(std::move(held)) {}
    explicit Ref(std::shared_ptr<source::LocalContext> local) : local_(std::move(local)) {}

    [[nodiscard]] const std::shared_ptr<source::LocalContext>& local() const { return local_; }
    // Of a live directory: empty, until it is copied into a layer.
    [[nodiscard]] const store::Chain& chain() const { return chain_; }

private:
    store::Chain chain_;
    std::shared_ptr<const void> held_;  // what holds its layers
    std::shared_ptr<source::LocalContext> local_;
};

// nullptr (scratch) is the empty chain.
[[nodiscard]] const Ref* ref_of(const solver::SharedResult& result);
[[nodiscard]] store::Chain chain_of(const solver::SharedResult& result);
// Only to look into: somebody else holds the layers for as long as this lives.
[[nodiscard]] solver::SharedResult make_result(store::Chain chain);
// Held by `held` for as long as this lives.
[[nodiscard]] solver::SharedResult make_result(store::Chain chain, std::shared_ptr<const void> held);
// A result of a build: its layers are held by the build's own view of the store.
[[nodiscard]] Result<solver::SharedResult> held_result(store::Chain chain, const std::shared_ptr<store::Store>& holder);

}  // namespace cooper::ops
