#include "exporter/detail/stage_tree.hpp"

#include <algorithm>
#include <map>

namespace cooper::exporter::detail {

namespace {

using inside::Paths;
using snapshot::Directory;
using snapshot::DirectoryRef;
using snapshot::Entry;
using snapshot::Kind;
using snapshot::Node;

// Marks the origin of what comes from the base image's tree.
constexpr std::uint32_t kOfBase = std::uint32_t{1} << 31U;

enum class Side : std::uint8_t { result, base, none };

struct Shared {
    std::shared_ptr<const StagePlan> plan;
    std::uint32_t number = 0;
};

class StageDirectory final : public Directory {
public:
    // result may not be null; base may. id: of this directory, kNone when no layer above the base names it.
    StageDirectory(std::shared_ptr<const Shared> shared, DirectoryRef result, DirectoryRef base, Paths::Id id)
        : shared_(std::move(shared)), result_(std::move(result)), base_(std::move(base)), id_(id) {
        const bool here = id == Paths::kNone || plan().homes[id] <= shared_->number;
        own_ = here || base_ == nullptr ? Side::result : Side::base;
        self_ = own_ == Side::result ? result_->self() : base_->self();
    }

    [[nodiscard]] Result<std::vector<Entry>> list() const override {
        std::map<std::string, Entry> names;
        for (const auto& entry : TRY(result_->list())) {
            if (side_of(entry.name, true) == Side::result) names.emplace(entry.name, entry);
        }
        if (base_ != nullptr) {
            for (auto& entry : TRY(base_->list())) {
                if (names.contains(entry.name)) continue;
                const bool in_result = TRY(result_->find(entry.name)).has_value();
                if (side_of(entry.name, in_result) != Side::base || is_replaced(entry.name, entry.kind)) continue;
                entry.origin |= kOfBase;
                names.emplace(entry.name, entry);
            }
        }
        std::vector<Entry> out;
        for (auto& [name, entry] : names) out.push_back(std::move(entry));
        return out;
    }

    [[nodiscard]] Result<std::optional<Node>> find(const std::string& name) const override {
        auto found = TRY(result_->find(name));
        const Side side = side_of(name, found.has_value());
        if (side == Side::result) return found;
        if (side == Side::none || base_ == nullptr) return std::optional<Node>();
        auto below = TRY(base_->find(name));
        if (below && is_replaced(name, below->kind)) return std::optional<Node>();
        if (below) below->origin |= kOfBase;
        return below;
    }

    [[nodiscard]] Result<Node> stat(const Entry& entry) const override {
        if ((entry.origin & kOfBase) == 0) return result_->stat(entry);
        Entry plain = entry;
        plain.origin &= ~kOfBase;
        Node node = TRY(base_->stat(plain));
        node.origin |= kOfBase;
        return node;
    }

    [[nodiscard]] Result<DirectoryRef> open_dir(const std::string& name) const override {
        const auto in_result = TRY(result_->find(name));
        const bool is_dir = in_result && in_result->kind == Kind::directory;
        if (side_of(name, in_result.has_value()) != Side::result && !is_dir) return base_->open_dir(name);
        DirectoryRef below;
        if (base_ != nullptr) {
            const auto in_base = TRY(base_->find(name));
            if (in_base && in_base->kind == Kind::directory) below = TRY(base_->open_dir(name));
        }
        return DirectoryRef(
            std::make_shared<StageDirectory>(shared_, TRY(result_->open_dir(name)), std::move(below), child(name)));
    }

    [[nodiscard]] Result<sys::Fd> open_file(const std::string& name, const Node& node) const override {
        return side(node).open_file(name, plain(node));
    }
    [[nodiscard]] Result<std::string> read_link(const std::string& name, const Node& node) const override {
        return side(node).read_link(name, plain(node));
    }
    [[nodiscard]] Result<snapshot::Xattrs> xattrs(const std::string& name, const Node& node) const override {
        return side(node).xattrs(name, plain(node));
    }
    [[nodiscard]] Result<snapshot::Xattrs> self_xattrs() const override {
        return own_ == Side::result ? result_->self_xattrs() : base_->self_xattrs();
    }
    [[nodiscard]] int link_fd(const Node& node) const override { return side(node).link_fd(plain(node)); }
    [[nodiscard]] std::uint64_t link_domain(const Node& node) const override {
        return side(node).link_domain(plain(node));
    }

private:
    [[nodiscard]] const StagePlan& plan() const { return *shared_->plan; }

    [[nodiscard]] Paths::Id child(const std::string& name) const {
        if (id_ == Paths::kNone) return Paths::kNone;
        return plan().listings.paths.find_child(id_, name).value_or(Paths::kNone);
    }

    // Whose version of a name is seen at this stage.
    [[nodiscard]] Side side_of(const std::string& name, bool in_result) const {
        const Paths::Id id = child(name);
        const bool above = in_result && id != Paths::kNone && plan().stack->place(id).exists();
        if (in_result && (!above || plan().homes[id] <= shared_->number)) return Side::result;
        // What the base has, until a layer removes it.
        const std::uint32_t gone = id != Paths::kNone    ? plan().gone[id]
                                   : id_ != Paths::kNone ? plan().gone_below[id_]
                                                         : 0;
        return base_ != nullptr && gone > shared_->number ? Side::base : Side::none;
    }

    // Layers repeat the directories of what they change; any other entry takes the place of what the base has.
    [[nodiscard]] bool is_replaced(const std::string& name, Kind of_base) const {
        const Paths::Id id = child(name);
        return of_base != Kind::directory && id != Paths::kNone && plan().put[id] <= shared_->number;
    }

    [[nodiscard]] const Directory& side(const Node& node) const {
        return (node.origin & kOfBase) != 0 ? *base_ : *result_;
    }
    static Node plain(Node node) {
        node.origin &= ~kOfBase;
        return node;
    }

    std::shared_ptr<const Shared> shared_;
    DirectoryRef result_;
    DirectoryRef base_;
    Paths::Id id_;
    Side own_ = Side::result;
};

class StageTree final : public snapshot::Tree {
public:
    explicit StageTree(std::shared_ptr<const Shared> shared) : shared_(std::move(shared)) {}
    [[nodiscard]] Result<DirectoryRef> root() const override {
        return DirectoryRef(std::make_shared<StageDirectory>(shared_, TRY(shared_->plan->result->root()),
                                                             TRY(shared_->plan->base->root()), Paths::kRoot));
    }
    [[nodiscard]] bool immutable() const override { return true; }

private:
    std::shared_ptr<const Shared> shared_;
};

}  // namespace

snapshot::TreeRef stage_tree(std::shared_ptr<const StagePlan> plan, std::uint32_t number) {
    return std::make_shared<StageTree>(std::make_shared<const Shared>(Shared{std::move(plan), number}));
}

}  // namespace cooper::exporter::detail
