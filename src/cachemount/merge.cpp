#include "cachemount/merge.hpp"

#include <algorithm>

namespace cooper::cachemount {

namespace {

const Entry* find(const Synced* synced, const std::string& path) {
    if (synced == nullptr) return nullptr;
    const auto found = synced->entries.find(path);
    return found == synced->entries.end() ? nullptr : &found->second.entry;
}

const Entry* find(const Entries& entries, const std::string& path) {
    const auto found = entries.find(path);
    return found == entries.end() ? nullptr : &found->second;
}

bool is_same(const LocalEntry& local, const Entry& other) {
    if (local.read || local.entry.type != EntryType::file) return local.entry.same_as(other);
    const Entry& mine = local.entry;
    return mine.type == other.type && mine.mode == other.mode && mine.uid == other.uid && mine.gid == other.gid &&
           mine.mtime_ns == other.mtime_ns && mine.xattrs == other.xattrs && local.seen.size == other.size();
}

bool is_unchanged(const LocalEntry& local, const Entry* base) {
    if (base == nullptr) return false;
    return local.unchanged || (local.read && local.entry.same_as(*base));
}

// Whether the file here is to stay. In head is another one, or none (null).
bool stays(const LocalEntry& local, const Entry* base, const Entry* head) {
    const bool changed_here = !is_unchanged(local, base);
    const bool changed_there = base == nullptr || head == nullptr || !head->same_as(*base);
    if (changed_here != changed_there) return changed_here;
    if (!changed_here) return true;
    return head == nullptr || local.entry.stamp_ns >= head->stamp_ns;
}

}  // namespace

Entries changes_for_head(const LocalTree& local, const Synced* synced, const Entries& head) {
    Entries changes;
    for (const auto& [path, mine] : local) {
        if (mine.unsteady) continue;
        const Entry* const theirs = find(head, path);
        if (theirs != nullptr && is_same(mine, *theirs)) continue;
        if (stays(mine, find(synced, path), theirs)) changes.emplace(path, mine.entry);
    }
    if (synced == nullptr) return changes;
    for (const auto& [path, known] : synced->entries) {
        const Entry* const theirs = find(head, path);
        if (theirs == nullptr || local.contains(path) || !theirs->same_as(known.entry)) continue;
        Entry gone;
        gone.type = EntryType::gone;
        gone.stamp_ns = known.entry.stamp_ns;
        changes.emplace(path, std::move(gone));
    }
    // A directory that others have put something into stays.
    for (const auto& [path, entry] : head) {
        if (changes.contains(path)) continue;
        for (std::string_view parent = path; !parent.empty();) {
            parent = parent_path(parent);
            const auto change = changes.find(std::string(parent));
            if (change != changes.end() && change->second.type == EntryType::gone) changes.erase(change);
        }
    }
    return changes;
}

LocalChanges changes_for_local(const LocalTree& local, const Synced* synced, const Entries& head) {
    LocalChanges changes;
    for (const auto& [path, theirs] : head) {
        const Entry* const base = find(synced, path);
        const auto mine = local.find(path);
        if (mine == local.end()) {
            // Removed here, and nobody has changed it since.
            if (base == nullptr || !theirs.same_as(*base)) changes.write.push_back(path);
            continue;
        }
        if (is_same(mine->second, theirs) || stays(mine->second, base, &theirs)) continue;
        changes.write.push_back(path);
    }
    if (synced == nullptr) return changes;
    for (const auto& [path, known] : synced->entries) {
        if (path.empty() || head.contains(path)) continue;
        const auto mine = local.find(path);
        if (mine != local.end() && !stays(mine->second, &known.entry, nullptr)) changes.remove.push_back(path);
    }
    std::ranges::reverse(changes.remove);
    return changes;
}

std::map<std::string, Synced::Known> in_both(const LocalTree& local, const Entries& head) {
    std::map<std::string, Synced::Known> both;
    for (const auto& [path, mine] : local) {
        const Entry* const theirs = find(head, path);
        if (theirs != nullptr && !mine.unsteady && is_same(mine, *theirs))
            both.emplace(path, Synced::Known{*theirs, mine.seen});
    }
    return both;
}

}  // namespace cooper::cachemount
