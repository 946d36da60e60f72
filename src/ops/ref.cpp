#include "ops/ref.hpp"

namespace cooper::ops {

const Ref* ref_of(const solver::SharedResult& result) { return static_cast<const Ref*>(result.get()); }

store::Chain chain_of(const solver::SharedResult& result) {
    const Ref* ref = ref_of(result);
    return ref == nullptr ? store::Chain{} : ref->chain();
}

solver::SharedResult make_result(store::Chain chain) { return make_result(std::move(chain), nullptr); }

solver::SharedResult make_result(store::Chain chain, std::shared_ptr<const void> held) {
    if (chain.empty()) return nullptr;
    return std::make_shared<const Ref>(std::move(chain), std::move(held));
}

Result<solver::SharedResult> held_result(store::Chain chain, const std::shared_ptr<store::Store>& holder) {
    if (chain.empty()) return solver::SharedResult();
    auto held = TRY(holder->pin(chain));
    if (held == nullptr) {
        return fail(Code::not_found, Blame::world, "a layer of {} was removed meanwhile", chain.to_string())
            .with_hint("build again");
    }
    return make_result(std::move(chain), std::move(held));
}

}  // namespace cooper::ops
