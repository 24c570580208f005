from fastbars.kernel.rules cimport Rule

cdef struct Tree:           # time specs whose intervals nest: the root takes the trades, the others its bars
    int root
    int start               # places in Specs.order, each spec behind the one that feeds it
    int stop

cdef struct Specs:          # the specs of a kernel: their rules, and which time spec feeds which
    Rule *rules
    int count
    bint anchored           # some have an anchor
    int tree_count
    Tree *trees
    int *order              # the time specs, tree by tree, and in a tree each before those that it feeds
    int *subtree_end        # of each place in `order`: the first one behind all specs fed by the one there
    Rule *anchors           # of each spec, where it has one
    int *source             # of each spec: the one whose closed bars are merged into it; -1: none

cdef class SpecTrees:
    cdef readonly tuple specs
    cdef Specs tables           # borrowed by whoever keeps this object
    cdef list boundaries        # arrays that rules point into
    cdef int read_rules(self) except -1
    cdef int read_rule(self, Rule *rule, object spec) except -1
    cdef int build_trees(self) except -1
    cdef int put_in_order(self, int spec, int place, list timed) except -1
