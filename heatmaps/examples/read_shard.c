/* Print one photo's record of a shard, by the photo's id. The format is specified in ../README.md.
 *
 *     h5cc -o read_shard read_shard.c
 *     HDF5_PLUGIN_PATH=... ./read_shard shards/shard-000000.h5 dress/0001.jpg
 *
 * HDF5 finds the Zstandard filter (32015) in the folder that HDF5_PLUGIN_PATH names; the Python
 * package hdf5plugin brings one: python -c 'import hdf5plugin; print(hdf5plugin.PLUGIN_PATH)'
 */

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void stop(const char *what) {
    fprintf(stderr, "Could not read %s.\n", what);
    exit(1);
}

/* Read row `row` of a data set of N rows into `values`: `type` says what they are in memory. */
static void read_row(hid_t file, const char *name, hsize_t row, hid_t type, void *values) {
    hid_t data_set = H5Dopen2(file, name, H5P_DEFAULT);
    if (data_set < 0) stop(name);
    hid_t space = H5Dget_space(data_set);
    hsize_t start[4] = {row, 0, 0, 0}, count[4];
    int rank = H5Sget_simple_extent_dims(space, count, NULL);
    count[0] = 1;
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
    hid_t memory = H5Screate_simple(rank, count, NULL);
    if (H5Dread(data_set, type, memory, space, H5P_DEFAULT, values) < 0) stop(name);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(data_set);
}

/* Find the row of an id: text of a fixed length, padded with zero bytes. -1 if it is not there. */
static long find_row(hid_t file, const char *id) {
    hid_t data_set = H5Dopen2(file, "id", H5P_DEFAULT);
    if (data_set < 0) stop("id");
    hid_t type = H5Dget_type(data_set), space = H5Dget_space(data_set);
    size_t length = H5Tget_size(type);
    hsize_t rows;
    H5Sget_simple_extent_dims(space, &rows, NULL);
    char *ids = malloc(rows * length);
    if (H5Dread(data_set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, ids) < 0) stop("id");
    long found = -1;
    for (hsize_t row = 0; row < rows; row++) {
        const char *here = ids + row * length;
        size_t its_length = strnlen(here, length);
        if (its_length == strlen(id) && !memcmp(here, id, its_length)) found = (long)row;
    }
    free(ids);
    H5Dclose(data_set);
    return found;
}

/* Give the extents of a data set of up to four axes. */
static void extents(hid_t file, const char *name, hsize_t *shape) {
    hid_t data_set = H5Dopen2(file, name, H5P_DEFAULT);
    if (data_set < 0) stop(name);
    hid_t space = H5Dget_space(data_set);
    H5Sget_simple_extent_dims(space, shape, NULL);
    H5Sclose(space);
    H5Dclose(data_set);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "Usage: read_shard SHARD ID\n");
        return 2;
    }
    hid_t file = H5Fopen(argv[1], H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) stop(argv[1]);
    long row = find_row(file, argv[2]);
    if (row < 0) stop(argv[2]);

    unsigned char status;
    int size[2], people;
    read_row(file, "status", row, H5T_NATIVE_UCHAR, &status);
    read_row(file, "size", row, H5T_NATIVE_INT, size);
    read_row(file, "people", row, H5T_NATIVE_INT, &people);
    printf("status %d size %d %d people %d\n", status, size[0], size[1], people);

    hsize_t shape[4]; /* N, K, 4 */
    extents(file, "keypoints", shape);
    float *keypoints = malloc(shape[1] * 4 * sizeof(float));
    read_row(file, "keypoints", row, H5T_NATIVE_FLOAT, keypoints);
    for (hsize_t k = 0; k < shape[1]; k++)
        printf("keypoint %.9g %.9g %.9g %.9g\n", keypoints[4 * k], keypoints[4 * k + 1],
               keypoints[4 * k + 2], keypoints[4 * k + 3]);

    extents(file, "heatmaps", shape); /* N, C, S, S */
    size_t pixels = shape[2] * shape[3];
    unsigned char *maps = malloc(shape[1] * pixels);
    read_row(file, "heatmaps", row, H5T_NATIVE_UCHAR, maps);
    for (hsize_t c = 0; c < shape[1]; c++) {
        unsigned long sum = 0;
        int peak = 0;
        for (size_t i = 0; i < pixels; i++) {
            sum += maps[c * pixels + i];
            if (maps[c * pixels + i] > peak) peak = maps[c * pixels + i];
        }
        printf("channel %d peak %d sum %lu\n", (int)c, peak, sum);
    }
    free(keypoints);
    free(maps);
    H5Fclose(file);
    return 0;
}
