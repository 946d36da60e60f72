#include "ops/ref.hpp"

namespace cooper::ops {

const Ref* ref_of(const solver::SharedResult& result) { return static_cast<const Ref*>(result.get()); }

store::Chain chain_of(const solver::SharedResult& result) {
    const Ref* ref = ref_of(result);
    return ref == nullptr ? store::Chain{} : ref->chain();
}

solver::SharedResult make_result(store::Chain chain) {
    if (chain.empty()) return nullptr;
    return std::make_shared<const Ref>(std::move(chain));
}

}  // namespace cooper::ops
