"""What is made for one other library; only ``transformers.set_loss`` needs it installed.

``transformers``   the registered loss and the post-processing of its segmentation models
``evaluate``       the metric ``mean_iou`` of Hugging Face's evaluate, for ``Trainer`` too
``mmsegmentation`` its ``IoUMetric``
``torchmetrics``   its ``JaccardIndex`` and ``MeanIoU``
"""
