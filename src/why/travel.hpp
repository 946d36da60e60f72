// Records of steps that leave a machine with a cache, and come to another one: what of an Ingredients may travel, and
// the text that they are in. docs/cache.md, "Reasons that travel".
//
// What is read was written by whoever may write to the cache: it is bounded, and nothing of it is believed that is not
// looked at. Pure; any thread.
#pragma once

#include "base/clock.hpp"
#include "base/digest.hpp"
#include "why/files.hpp"
#include "why/ingredients.hpp"

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::why {

// The result of a step as every machine names it, by what its layers unpack to; bottom first.
[[nodiscard]] std::string state_of_layers(const std::vector<Digest>& diff_ids);

// Without what belongs to one machine: its project, its digests of hidden values, its names of results (state says
// what each is elsewhere; "" when that is not known). Values of --build-arg become digests. Two of these are compared
// by the rules of compare.hpp.
[[nodiscard]] Ingredients portable(Ingredients step, const std::function<std::string(const std::string&)>& state);
// Of texts of instructions, in the same way.
[[nodiscard]] std::set<std::string> portable(const std::set<std::string>& texts);
// Without words that values of this build have been put into: names of steps are made anew from their instructions.
[[nodiscard]] std::string name_with(const std::string& name, const std::string& text);

// Lists of files travel with shorter digests, to be compared with lists cut in the same way. nullopt: damaged.
[[nodiscard]] std::optional<std::string> pack_for_travel(std::string_view packed);
void shorten(std::vector<FileEntry>& files);

// Where a list of files is: in the text itself, or a blob beside it.
struct ListPlace {
    std::string data;
    Digest digest;
    std::uint64_t size = 0;
    friend bool operator==(const ListPlace&, const ListPlace&) = default;
};

struct TravellingStep {
    Ingredients step;
    Timestamp created{};
};

struct Travelling {
    std::vector<TravellingStep> steps;
    std::map<std::string, ListPlace> lists;  // by the names that inputs have
};

inline constexpr std::size_t kMaxTravellingSteps = 5'000;
inline constexpr std::size_t kMaxTravellingBlobs = 500;
inline constexpr std::uint64_t kMaxListBytes = 8u << 20;  // packed

// Compressed. The same bytes for the same records, whatever their order is. What is too much is left out.
[[nodiscard]] std::string to_text(const Travelling& travelling);
// nullopt: it is none, or damaged.
[[nodiscard]] std::optional<Travelling> parse_travelling(std::string_view text);

}  // namespace cooper::why
