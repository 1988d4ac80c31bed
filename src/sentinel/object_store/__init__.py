"""Files in S3, whoever serves it: AWS, SeaweedFS, Ceph, rclone."""
